"""What the motif finders share: drives, firing, conditional means, nulls, the frozen result of a search."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.evidence import Measurement, benjamini_hochberg, measure_difference, measure_mean
from cutaway.evidence.permutation import TIE

FIRING_SHARE = 0.1
FEWEST = 5  # samples (or origins) on each side of a comparison

Kernel = Float[Tensor, "target source y x"]
Finding = TypeVar("Finding")


@dataclass(frozen=True)
class Search(Generic[Finding]):
    """What a finder found, the most significant first, among ``tested`` candidates at a false discovery rate ``level``.

    No finding is a result: the motif was looked for in ``tested`` places and not found.
    """

    motif: str
    findings: tuple[Finding, ...]
    tested: int
    level: float


def as_array(values: Tensor) -> Float[np.ndarray, "..."]:
    """A tensor as float64 on the processor."""
    return values.detach().double().cpu().numpy()


def drives(kernel: Kernel) -> Float[np.ndarray, "target source"]:
    """The sum of each kernel over its positions: what a source that is on everywhere adds to the target."""
    check_kernel(kernel)
    return as_array(kernel.sum((2, 3)))


def check_kernel(kernel: Kernel) -> None:
    """Refuses a kernel that is empty or not finite."""
    if kernel.numel() == 0 or not bool(kernel.isfinite().all()):
        raise BadInput(f"A kernel of shape {tuple(kernel.shape)} was given; give finite weights [target source y x].")


def check_activations(
    kernel: Kernel, sources: Float[Tensor, "sample sources"], targets: Float[Tensor, "sample targets"] | None = None
) -> None:
    """Refuses activations that do not fit the kernel or each other."""
    shapes = [(sources, kernel.shape[1], "sources")] + (
        [] if targets is None else [(targets, kernel.shape[0], "targets")]
    )
    for values, width, what in shapes:
        if values.shape[1] != width or len(values) != len(sources):
            raise BadInput(
                f"Activations of {what} have shape {tuple(values.shape)}; the kernel and {len(sources)} samples ask "
                f"for {(len(sources), width)}."
            )


def check_labels(labels: Sequence[str | None], width: int, what: str) -> None:
    """Refuses labels that are not one for each unit."""
    if len(labels) != width:
        raise BadInput(f"{len(labels)} labels of {what} were given for {width} units; give one (or None) for each.")


def firing(values: Float[Tensor, "sample unit"], share: float = FIRING_SHARE) -> Bool[np.ndarray, "sample unit"]:
    """Where each unit is among its highest ``share`` of samples (fewer where most of them are tied)."""
    array = as_array(values)
    return array > np.quantile(array, 1 - share, axis=0)


def contrast(
    values: Float[np.ndarray, " sample"],
    on: Bool[np.ndarray, " sample"],
    off: Bool[np.ndarray, " sample"],
    origins: Sequence[str] | None,
    *,
    sign: int = 1,
    shuffles: int = 999,
    seed: int = 0,
) -> Measurement:
    """Mean of ``values`` where ``on`` minus where ``off``, times ``sign``, in standard deviations; one-sided.

    Null without origins: the samples of both sides are exchanged. With origins (samples of one picture belong
    together): differences inside each origin that has both sides change sign at random; n counts origins. A comparison
    with fewer than five samples or origins is not made: p is NaN.
    """
    spread = float(values.std())
    scaled = sign * values / spread if spread > 0 else values
    options = {"alternative": "greater", "shuffles": shuffles, "resamples": 500, "seed": seed}
    if origins is None:
        if min(on.sum(), off.sum()) < FEWEST:
            return Measurement(math.nan, n=int(min(on.sum(), off.sum())), seed=seed)
        return measure_difference(scaled[on], scaled[off], **options)  # type: ignore[arg-type]
    codes = np.unique(np.asarray(origins), return_inverse=True)[1]
    counts_on, counts_off = (np.bincount(codes[mask], minlength=codes.max() + 1) for mask in (on, off))
    sums_on, sums_off = (np.bincount(codes[mask], scaled[mask], minlength=codes.max() + 1) for mask in (on, off))
    both = (counts_on > 0) & (counts_off > 0)
    if both.sum() < FEWEST:
        return Measurement(math.nan, n=int(both.sum()), seed=seed)
    return measure_mean(sums_on[both] / counts_on[both] - sums_off[both] / counts_off[both], **options)  # type: ignore[arg-type]


def weaker(measurements: Sequence[Measurement]) -> Measurement:
    """The least convincing of several, which bounds the claim that all hold (an intersection-union test)."""
    return max(measurements, key=lambda m: (1.0 if math.isnan(m.p) else m.p, -m.value))


def against_shuffles(
    observed: Float[np.ndarray, " candidate"],
    draw: Callable[[np.random.Generator], Float[np.ndarray, " candidate"]],
    *,
    n: int,
    shuffles: int,
    seed: int,
    pooled: bool,
) -> list[Measurement]:
    """Each number against the same number in ``shuffles`` null worlds; one-sided, greater. NaN: not a candidate.

    ``pooled`` where the null is the same for all candidates (everything in the layer is exchanged): each is then held
    against the draws of all, which allows p far below 1 / shuffles.
    """
    rng = np.random.default_rng(seed)
    null = np.array([draw(rng) for _ in range(shuffles)])
    if pooled:
        null = np.broadcast_to(null.reshape(-1, 1), (null.size, len(observed)))
    return [_against(float(value), null[:, place], n, seed) for place, value in enumerate(observed)]


def _against(value: float, null: Float[np.ndarray, " draw"], n: int, seed: int) -> Measurement:
    known = null[np.isfinite(null)]  # what is a candidate is compared with null worlds that have one
    mean, std = (float(known.mean()), float(known.std())) if len(known) else (math.nan, math.nan)
    reached = int((known >= value - TIE * abs(value)).sum())
    p = math.nan if math.isnan(value) else (1 + reached) / (1 + len(known))
    return Measurement(value, null_mean=mean, null_std=std, p=p, n=n, seed=seed)


def confirmed(
    tests: Sequence[Measurement], measure: Callable[[int], Measurement], *, level: float, seed: int
) -> list[Measurement]:
    """The confirmation of each candidate whose own test has p <= ``level``; the others' is not made (NaN)."""
    return [measure(i) if tests[i].p <= level else Measurement(math.nan, seed=seed) for i in range(len(tests))]


def corrected(tests: Sequence[Measurement], confirmations: Sequence[Measurement]) -> Float[np.ndarray, " candidate"]:
    """q of each candidate: the larger of its two adjusted p (Benjamini and Hochberg).

    The first test is corrected over all candidates, the confirmation over those for which it was made. A test that
    could not be made counts as failed: 1.
    """
    adjusted = [benjamini_hochberg(np.array([each.p for each in column])) for column in (tests, confirmations)]
    return np.max(np.nan_to_num(adjusted, nan=1.0), axis=0)


def with_q(findings: Sequence[Finding], q: Float[np.ndarray, " candidate"], level: float) -> tuple[Finding, ...]:
    """The findings with q at most ``level``, their q filled in, the smallest first."""
    kept = [index for index in np.argsort(q, kind="stable") if q[index] <= level]
    return tuple(replace(findings[index], q=float(q[index])) for index in kept)  # type: ignore[type-var]
