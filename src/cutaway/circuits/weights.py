"""Weights between two sites of any convolutional network: what one channel adds to another, position by position.

The path between the sites is seen in a real pass (:mod:`.paths.trace`), its weights are read and multiplied out with
normalization folded in (:mod:`.paths.composition`), and the result is compared with the Jacobian of the very same
path, its nonlinearities taken out, at an inner position. A kernel that fails this is never returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.circuits.paths.composition import Gates, LinearMap, Pair, compose
from cutaway.circuits.paths.operations import ACTIVATIONS, MAX_POOLS, NEUTRAL, given, pool
from cutaway.circuits.paths.probing import no_path, probe_paths
from cutaway.circuits.paths.trace import Call, Path, Rule, spatial_pair
from cutaway.errors import NotTestable
from cutaway.networks.network import Network

Paths = Literal["auto", "linear", "all"]
AGREES = 1e-4
"""Largest difference between a kernel and the Jacobian, relative to the kernel's largest entry, in float32."""
_ROOM = 8  # positions of the target map at which a 5x5 kernel lies inside for sure
_NONLINEAR = ACTIVATIONS | MAX_POOLS


@dataclass(frozen=True, eq=False)
class Kernel:
    """The weights from every channel of ``source`` to every channel of ``target``, normalization folded in.

    Before the nonlinearities that end at the target (they are in ``through``), and away from the border,

        target[t, y] = sum over c, i of values[t, c, i] * source[c, y * stride + offset + i] + bias[t] + other paths

    with rows and columns alike. Where a max pool lies between source and weights, ``source`` is the pooled map.

    ``how`` is ``direct`` (one convolution), ``depthwise`` (one, each channel by itself), ``virtual`` (several linear
    maps multiplied, or a path that skips layers), ``effective`` (nonlinearities in between taken for the identity, or
    for ``gates``) or ``identity``. ``exact`` is True only if no nonlinearity lies between the source and the sum above.
    ``left_out`` names the nonlinearities of other paths, whose contribution is not in this kernel. ``check`` is the
    largest difference from the Jacobian of the path, relative to the largest entry. ``resampled``: the target was
    resized, so ``values`` weigh the resized source and ``offset`` has no meaning.
    """

    source: str
    target: str
    values: Float[Tensor, "target source y x"]
    bias: Float[Tensor, " target"]
    how: str
    exact: bool
    through: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    stride: Pair = (1, 1)
    offset: Pair = (0, 0)
    check: float = 0.0
    resampled: bool = False

    def norms(self) -> Float[Tensor, "target source"]:
        """The L2 norm of each pair's kernel, >= 0."""
        return self.values.flatten(2).norm(dim=2)

    def sums(self) -> Float[Tensor, "target source"]:
        """The sum of each pair's kernel: the answer to a uniform map of ones, signed."""
        return self.values.sum((2, 3))


def kernel(network: Network, source: str, target: str, *, paths: Paths = "auto", gates: Gates | None = None) -> Kernel:
    """The weights from a site to a later one, exact where the path is linear; see :class:`Kernel`.

    ``paths="linear"`` counts only branches without a nonlinearity (skip connections, linear bottlenecks), ``"all"``
    counts every branch with nonlinearities taken for the identity, ``"auto"`` the linear ones where they hold weights
    to every target channel. ``gates`` (label of an activation to a rate for each of its units, see
    :func:`.paths.gates.gate_rates`) weighs hidden units by how often they are open. Batch normalization is
    folded, W' = W gamma / sqrt(var + eps). Raises ``BadInput`` where no path leads from source to target, and
    ``NotTestable`` for sites that are no feature maps and for paths that are not one kernel.
    """
    first, last = spatial_pair(network, source, target)
    for _, path in probe_paths(network, first, last, room=_ROOM):
        lead, core, trail = _stripped(path)
        counted, linear = _read(core, paths, gates, (source, target))
        check = _difference(counted, linear, gates)
        if check is None:
            continue
        if check > AGREES:
            raise NotTestable(
                f"The kernel from {source} to {target} that was read from the weights differs from the path's Jacobian "
                f"by {check:.1g}; ask for expanded weights (--expanded average)."
            )
        return _described(source, target, linear, lead, core, counted, trail, check)
    raise NotTestable(
        f"The window of a kernel from {source} to {target} is larger than every map that was tried, so nothing is away "
        "from the border; choose sites that are closer to each other."
    )


def _stripped(path: Path) -> tuple[list[Call], Path, list[Call]]:
    """Pools and activations that alone lead away from the source, the path between, those that alone end it."""
    lead, trail = [], []
    start, end = path.start, path.end
    passes = _NONLINEAR | NEUTRAL
    while len(readers := [call for call in path.calls if start in call.takes]) == 1 and readers[0].name in passes:
        if readers[0].gives == end:
            break
        lead.append(readers[0])
        start = readers[0].gives
    givers = {call.gives: call for call in path.calls}
    while end != start and givers[end].name in passes:
        trail.append(givers[end])
        end = givers[end].takes[0]
    return lead, path.between(start, end), trail[::-1]


def _nonlinear(call: Call) -> bool:
    return call.name in _NONLINEAR


def _read(core: Path, paths: Paths, gates: Gates | None, ends: tuple[str, str]) -> tuple[Path, LinearMap]:
    """The branches that count, and their linear map."""
    linear = core.without(_nonlinear) if core.calls else core
    if paths == "linear" and linear is None:
        raise no_path(*ends, "without a nonlinearity on the way; count all paths with paths='all'")
    if linear is not None and paths != "all":
        found = compose(linear, gates)
        # Where branches are joined side by side, leaving one out would leave channels without any weight.
        covers = bool((found.values.flatten(1) != 0).any(1).all())
        if paths == "linear" or (covers and any(call.name == "conv2d" for call in linear.calls)):
            return linear, found
    return core, compose(core, gates)


def _described(
    source: str,
    target: str,
    linear: LinearMap,
    lead: list[Call],
    core: Path,
    counted: Path,
    trail: list[Call],
    check: float,
) -> Kernel:
    inside = [call for call in counted.calls if _nonlinear(call)]
    kept = {call.gives for call in counted.calls}
    left_out = _labels(call for call in core.calls if _nonlinear(call) and call.gives not in kept)
    listed = [*lead, *(call for call in counted.calls if _worth_naming(call)), *trail]
    return Kernel(
        source,
        target,
        linear.dense().values,
        linear.bias,
        _how(counted, linear, bool(left_out)),
        exact=not inside and not any(_nonlinear(call) for call in lead),
        through=_labels(call for call in listed if call.name not in NEUTRAL),
        left_out=left_out,
        stride=linear.stride,
        offset=linear.offset,
        check=check,
        resampled=linear.resampled,
    )


def _how(counted: Path, linear: LinearMap, partial: bool) -> str:
    convolutions = sum(call.name == "conv2d" for call in counted.calls)
    if any(_nonlinear(call) for call in counted.calls):
        return "effective"
    if convolutions == 0 and not partial:
        return "identity"
    if convolutions == 1 and not partial:
        return "depthwise" if linear.diagonal else "direct"
    return "virtual"


def _worth_naming(call: Call) -> bool:
    return _nonlinear(call) or call.name in ("batch_norm", "avg_pool2d", "interpolate", "upsample")


def _labels(calls: Iterator[Call]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(call.label for call in calls))


# -- the check ---------------------------------------------------------------------------------------------------


def taken_for_linear(gates: Gates | None) -> Rule:
    """The replay in which activations pass everything (or their gate's share) and inner max pools add up."""

    def rule(call: Call, args: tuple, kwargs: dict) -> Tensor | None:
        if call.name in ACTIVATIONS:
            x = given(args, kwargs)
            return x * gates[call.label][:, None, None] if gates and call.label in gates else x
        if call.name in MAX_POOLS:
            window = pool(call.name, args, kwargs)
            x = given(args, kwargs)
            return torch.nn.functional.avg_pool2d(
                x, window.size, window.stride, window.padding, window.ceil_mode, divisor_override=1
            )
        return None

    return rule


def _difference(path: Path, linear: LinearMap, gates: Gates | None) -> float | None:
    """The largest error of the map against the path's Jacobian, along a random mixture of targets; None at a border."""
    x = torch.zeros_like(path.source, requires_grad=True)
    y = path.replay(x, taken_for_linear(gates)) if path.calls else x * 1.0
    place = ((y.shape[-2] - 1) // 2, (y.shape[-1] - 1) // 2)
    corner = [at * step + first for at, step, first in zip(place, linear.stride, linear.offset)]
    outside = any(low < 0 or low + side > full for low, side, full in zip(corner, linear.size, x.shape[-2:]))
    if outside and not linear.resampled:
        return None
    mixture = torch.randn(y.shape[1], generator=torch.Generator().manual_seed(0)).to(y)
    (gradient,) = torch.autograd.grad(y[0, :, place[0], place[1]] @ mixture, x)
    claimed = _mixture(linear, mixture)
    if linear.resampled:
        gradient, claimed = gradient[0].sum((1, 2)), claimed.sum((1, 2))
    else:
        rows, columns = (slice(low, low + side) for low, side in zip(corner, linear.size))
        full = torch.zeros_like(gradient[0])
        full[:, rows, columns] = claimed
        gradient, claimed = gradient[0], full
    return float((gradient - claimed).abs().max() / claimed.abs().max().clamp(min=1e-30))


def _mixture(linear: LinearMap, mixture: Tensor) -> Tensor:
    if linear.diagonal:
        return mixture[:, None, None] * linear.values[:, 0]
    return torch.einsum("t,tcyx->cyx", mixture, linear.values)
