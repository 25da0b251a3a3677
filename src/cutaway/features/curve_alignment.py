"""Averaging circular curves after alignment, without making a peak out of noise.

Shifting every curve to its own maximum and averaging gives a peak whatever the curves are. So the shifts must come from
other measurements of the same examples (another copy with other noise, or another unit). Two numbers say what is left:

    coherence     standard deviation over angles of the averaged curve / root mean square of that of single curves:
                  1 if all examples give the same curve, about 1 / sqrt(examples) if alignment says nothing.
                  Null: every example shifted by a random angle instead
    consistency   mean correlation of each aligned curve with the mean of the others. Null: curves of the same power
                  spectrum and random phases, aligned at their own maxima as well, so that the peak that alignment makes
                  of any curve is in the null (surrogates after Theiler et al. 1992, Physica D 58)

Curves that each have a favourite angle, but no common shape, have coherence and no consistency.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from cutaway.evidence import Measurement
from cutaway.evidence.permutation import permutation_p


def aligned(
    curves: Float[np.ndarray, "example angle"], shifts: Int[np.ndarray, " example"]
) -> Float[np.ndarray, "example angle"]:
    """Each curve turned so that its angle number ``shifts`` comes first."""
    angles = curves.shape[1]
    return np.take_along_axis(curves, (np.arange(angles) + shifts[:, None]) % angles, axis=1)


def coherence(
    curves: Float[np.ndarray, "example angle"],
    shifts: Int[np.ndarray, " example"],
    *,
    shuffles: int = 499,
    seed: int = 0,
) -> Measurement:
    """How much of the curves' variation over angles survives averaging after the shifts, 0 to 1.

    std(mean curve) / root mean square of std(curve). The shifts must come from elsewhere than these curves. Null:
    random shifts, one-sided. Interval: delete-one-example jackknife with Student's t. n counts examples.
    """
    rng = np.random.default_rng(seed)
    null = [_coherence(aligned(curves, rng.integers(curves.shape[1], size=len(curves)))) for _ in range(shuffles)]
    kept = aligned(curves, shifts)
    return _measured(
        _coherence(kept), np.array(null), [_coherence(np.delete(kept, i, 0)) for i in range(len(kept))], seed
    )


def consistency(
    aligning: Float[np.ndarray, "example angle"],
    curves: Float[np.ndarray, "example angle"],
    *,
    shuffles: int = 499,
    seed: int = 0,
) -> Measurement:
    """Mean correlation over angles of each aligned curve with the mean of the other examples', -1 to 1.

    ``aligning`` are the aligning unit's curves in the other copy. Null: each example's two curves get the same random
    phases (their power spectra and their relation stay), and are aligned again at the new maxima; one-sided. Interval
    and n as in :func:`coherence`.
    """
    rng = np.random.default_rng(seed)
    kept = aligned(curves, aligning.argmax(1))
    null = []
    for _ in range(shuffles):
        phases = rng.uniform(0, 2 * np.pi, (len(curves), curves.shape[1] // 2 + 1))
        first, second = (_with_phases(these, phases) for these in (aligning, curves))
        null.append(_agreement(aligned(second, first.argmax(1))))
    return _measured(
        _agreement(kept), np.array(null), [_agreement(np.delete(kept, i, 0)) for i in range(len(kept))], seed
    )


def _coherence(kept: Float[np.ndarray, "example angle"]) -> float:
    single = math.sqrt(float(kept.var(axis=1).mean()))
    return float(kept.mean(axis=0).std()) / single if single > 0 else 0.0


def _agreement(kept: Float[np.ndarray, "example angle"]) -> float:
    others = (kept.sum(0) - kept) / (len(kept) - 1)
    a, b = (curves - curves.mean(1, keepdims=True) for curves in (kept, others))
    scale = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    each = np.divide((a * b).sum(1), scale, out=np.zeros(len(kept)), where=scale > 0)
    return float(each.mean())


def _with_phases(
    curves: Float[np.ndarray, "example angle"], phases: Float[np.ndarray, "example frequency"]
) -> Float[np.ndarray, "example angle"]:
    """The curves with phases added to all frequencies but the mean and, at an even number of angles, the fastest."""
    spectrum = np.fft.rfft(curves, axis=1)
    fixed = [0, spectrum.shape[1] - 1] if curves.shape[1] % 2 == 0 else [0]
    added = np.exp(1j * phases)
    added[:, fixed] = 1
    return np.fft.irfft(spectrum * added, n=curves.shape[1], axis=1)


def _measured(value: float, null: Float[np.ndarray, " draw"], left_out: Sequence[float], seed: int) -> Measurement:
    rest, n = np.asarray(left_out), len(left_out)
    error = math.sqrt((n - 1) / n * float(np.square(rest - rest.mean()).sum()))
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    p = permutation_p(value, null, alternative="greater")
    return Measurement(value, value - reach, value + reach, float(null.mean()), float(null.std(ddof=1)), p, n, seed)
