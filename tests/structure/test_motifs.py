"""Motif finders: what was planted is found and confirmed, random kernels give about nothing, numbers by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cutaway.errors import BadInput
from cutaway.evidence import Measurement
from cutaway.structure.motifs import (
    LabelledLayers,
    Search,
    excite_inhibit_pairs,
    not_ors,
    pure_then_applied,
    superpositions,
    unions_over_cases,
)
from cutaway.structure.motifs.common import against_shuffles, contrast, corrected, drives, firing, weaker

SOURCES, TARGETS, SAMPLES = 24, 16, 1500


def random_kernel(seed: int = 0, targets: int = TARGETS, sources: int = SOURCES) -> Tensor:
    return torch.randn(targets, sources, 3, 3, generator=torch.Generator().manual_seed(seed)) / 10


def sparse_sources(seed: int = 0, sources: int = SOURCES, samples: int = SAMPLES) -> Tensor:
    """Rectified, independent, each on in about a tenth of the samples."""
    drawn = torch.randn(samples, sources, generator=torch.Generator().manual_seed(1000 + seed))
    return (drawn - 1.2).relu() * 3


def answers(kernel: Tensor, sources: Tensor, seed: int = 0) -> Tensor:
    """The targets that the kernel computes from sources that are the same everywhere, with some noise."""
    noise = torch.randn(len(sources), len(kernel), generator=torch.Generator().manual_seed(2000 + seed))
    return sources @ kernel.sum((2, 3)).T + 0.1 * noise


def cases() -> Tensor:
    """Sources of which 3 and 7 never fire together."""
    sources = sparse_sources()
    both = (sources[:, 3] > 0) & (sources[:, 7] > 0)
    sources[both, 7] = 0
    return sources


# -- union over cases ----------------------------------------------------------------------------------------------


def planted_union() -> Tensor:
    kernel = random_kernel()
    kernel[5] *= 0.3
    kernel[5, [3, 7]] = 0.4
    return kernel


def test_a_planted_union_is_found_and_confirmed() -> None:
    kernel, sources = planted_union(), cases()
    found = unions_over_cases(kernel, sources, answers(kernel, sources))
    first = found.findings[0]
    assert (first.target, {first.first, first.second}) == (5, {3, 7})
    assert first.lift < 0.2
    assert first.balance > 0.7
    assert first.weights.value > first.weights.null_mean + 3 * first.weights.null_std
    assert first.confirmation.value > 1, "more than a standard deviation above what neither gives"
    assert first.q <= 0.05
    assert len(found.findings) <= 2


def test_weights_without_the_behaviour_are_no_union() -> None:
    kernel, sources = planted_union(), cases()
    unrelated = answers(kernel, sources)[torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))]
    assert 5 not in [each.target for each in unions_over_cases(kernel, sources, unrelated, shuffles=60).findings]


def test_cases_that_fire_together_are_no_cases() -> None:
    kernel, sources = planted_union(), sparse_sources()
    sources[:500, 7] = sources[:500, 3]
    found = unions_over_cases(kernel, sources, answers(kernel, sources))
    assert all({each.first, each.second} != {3, 7} for each in found.findings)


def test_one_sided_cases_are_not_a_union() -> None:
    kernel, sources = planted_union(), cases()
    targets = answers(kernel, sources)
    targets[:, 5] -= sources[:, 7] * 0.75 * float(kernel[5, 7].sum())  # measured, case 7 has a quarter of the effect
    assert 5 not in [each.target for each in unions_over_cases(kernel, sources, targets).findings]


def test_the_effect_of_the_weaker_case_by_hand() -> None:
    # Ten samples: source 0 on in two, source 1 on in two others; the target is 4, 2 and 0.
    from cutaway.structure.motifs.union import _cases, _lift

    fires = np.zeros((10, 2), dtype=bool)
    fires[:2, 0] = fires[2:4, 1] = True
    values = np.array([4.0, 4, 2, 2, 0, 0, 0, 0, 0, 0])
    assert _cases(values, fires, (0, 1)) == (4, 2)
    assert _lift(fires)[0, 1] == 0
    fires[4] = True
    assert _lift(fires)[0, 1] == pytest.approx(0.1 / 0.09)


# -- not-or --------------------------------------------------------------------------------------------------------


def planted_not_or() -> Tensor:
    kernel = random_kernel(3)
    kernel[2] = -torch.rand(SOURCES, 1, 1, generator=torch.Generator().manual_seed(5)).expand(-1, 3, 3) / 5
    return kernel


def test_a_planted_not_or_is_found_and_confirmed() -> None:
    kernel, sources = planted_not_or(), sparse_sources()
    found = not_ors(kernel, sources, answers(kernel, sources))
    assert [each.target for each in found.findings] == [2]
    (only,) = found.findings
    assert only.negative_share == pytest.approx(1)
    assert only.uniformity == pytest.approx(1)
    assert only.confirmation is not None and only.confirmation.value > 0.5
    assert not_ors(kernel).findings[0].confirmation is None
    assert not not_ors(kernel, sources, -answers(kernel, sources)).findings, "a unit that does the reverse"


def test_negative_but_patchy_is_not_uniform() -> None:
    kernel = random_kernel(3)
    kernel[2] = 0
    kernel[2, :, :2, :2] = -0.2  # four of nine positions: uniformity 4/9
    assert not_ors(kernel).findings == ()
    kernel[2, :, :2, :3] = -0.2  # six of nine
    (found,) = not_ors(kernel).findings
    assert found.uniformity == pytest.approx(6 / 9)


def test_not_or_numbers_by_hand() -> None:
    # Energy: 4 * 4 from a constant kernel of -2, 4 + 4 from one of +-: 3 -1 / -1 -1 has energy 12, mean 0.
    kernel = torch.zeros(40, 2, 2, 2)
    kernel += torch.randn(kernel.shape, generator=torch.Generator().manual_seed(0)) / 100
    kernel[0, 0] = -2.0
    kernel[0, 1] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    (only,) = not_ors(kernel, level=0.1).findings
    assert only.target == 0
    assert only.negative_share == pytest.approx(18 / 20)
    assert only.uniformity == pytest.approx(16 / 20)
    assert only.weights.value == pytest.approx(16 / 20)


# -- excite/inhibit pairs ------------------------------------------------------------------------------------------


def antipodes() -> Tensor:
    """Source i and i + 12 are related."""
    related = torch.zeros(SOURCES, SOURCES, dtype=torch.bool)
    for source in range(12):
        related[source, source + 12] = related[source + 12, source] = True
    return related


def test_a_planted_pair_is_found_and_confirmed() -> None:
    kernel, sources = random_kernel(7), sparse_sources()
    kernel[4, 1], kernel[4, 13] = 0.5, -0.5
    found = excite_inhibit_pairs(kernel, antipodes(), sources, answers(kernel, sources))
    first = found.findings[0]
    assert (first.target, first.exciting, first.inhibiting) == (4, 1, 13)
    assert first.weights.p == pytest.approx(1 / (first.weights.n + 1))
    assert first.confirmation.value > 1
    assert len(found.findings) <= 2
    shuffled = answers(kernel, sources)[torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(0))]
    assert (4, 1, 13) not in {
        (each.target, each.exciting, each.inhibiting)
        for each in excite_inhibit_pairs(kernel, antipodes(), sources, shuffled).findings
    }


def test_opposition_by_hand() -> None:
    from cutaway.structure.motifs.signs import _opposition

    strength = _opposition(np.array([3.0, -1.0, 0.0, -3.0]))
    scale = math.sqrt(19 / 4)
    assert strength[0, 1] == pytest.approx(1 / scale)
    assert strength[0, 3] == pytest.approx(3 / scale)
    assert strength[1, 0] == strength[0, 2] == strength[3, 1] == 0


# -- labels --------------------------------------------------------------------------------------------------------

SOURCE_LABELS = ["curve"] * 5 + ["line"] * 5 + [None] * 14
TARGET_LABELS = ["dog"] * 6 + ["car"] * 6 + ["curve"] * 2 + [None] * 2


def test_a_shape_that_is_applied_to_an_object_is_found() -> None:
    kernel, sources = random_kernel(11), sparse_sources()
    kernel[3, :5] += 0.5
    kernel[12, :5] += 0.5  # a curve unit that reads curves is no application
    found = pure_then_applied(LabelledLayers(kernel, SOURCE_LABELS, TARGET_LABELS, sources, answers(kernel, sources)))
    assert [(each.shape, each.target, each.target_label) for each in found.findings] == [("curve", 3, "dog")]
    (only,) = found.findings
    assert only.weights.value > 0.8
    assert only.weights.null_mean == pytest.approx(5 / SOURCES, abs=0.05)
    assert only.confirmation.value > 0.5
    assert found.tested == 12 + 14
    silent = torch.zeros(SAMPLES, TARGETS).uniform_(generator=torch.Generator().manual_seed(1))
    assert not pure_then_applied(LabelledLayers(kernel, SOURCE_LABELS, TARGET_LABELS, sources, silent)).findings


def test_a_pure_unit_that_is_spread_over_others_is_found() -> None:
    kernel, sources = random_kernel(13, sources=40), sparse_sources(sources=40)
    labels: list[str | None] = ["car", "dog", "dog", "dog", *[None] * 36]
    kernel[[0, 1, 2, 4, 5], 0] = 0.6
    found = superpositions(LabelledLayers(kernel, labels, TARGET_LABELS, sources, answers(kernel, sources)))
    assert [(each.source, each.label) for each in found.findings] == [(0, "car")]
    (only,) = found.findings
    assert {0, 1, 2, 4, 5} <= set(only.targets) <= {0, 1, 2, 3, 4, 5, 12, 13}, "never targets of its own label"
    assert only.own_share < 0.3
    assert only.weights.value == len(only.targets)
    assert only.weights.null_mean == pytest.approx(8 * 3 / 40)
    assert only.confirmation.value > 0.5
    kernel[6:12, 0] = 2.0  # now it goes to its own kind, and the rest is a trickle
    assert 0 not in [
        each.source
        for each in superpositions(
            LabelledLayers(kernel, labels, TARGET_LABELS, sources, answers(kernel, sources))
        ).findings
    ]


def test_chance_of_being_among_the_strongest_by_hand() -> None:
    from cutaway.structure.motifs.labelled import _more_often_than_chance

    # 2 of 2 foreign targets, 3 of 12 sources each: (1/4)^2
    measured = _more_often_than_chance(np.array([True, True, False]), np.array([True, True, False]), 12)
    assert (measured.value, measured.null_mean, measured.n) == (2, 0.5, 2)
    assert measured.p == pytest.approx(1 / 16)


# -- random kernels ------------------------------------------------------------------------------------------------


def every_search(seed: int) -> list[Search]:
    kernel, sources = random_kernel(100 + seed), sparse_sources(seed)
    targets = answers(kernel, sources, seed)
    return [
        unions_over_cases(kernel, sources, targets, shuffles=40),
        not_ors(kernel, sources, targets, shuffles=99),
        excite_inhibit_pairs(kernel, antipodes(), sources, targets),
        pure_then_applied(LabelledLayers(kernel, SOURCE_LABELS, TARGET_LABELS, sources, targets), shuffles=399),
        superpositions(LabelledLayers(kernel, SOURCE_LABELS, TARGET_LABELS, sources, targets)),
    ]


def test_random_kernels_give_about_no_motif() -> None:
    counts = np.array([[len(search.findings) for search in every_search(seed)] for seed in range(4)])
    assert counts.sum(0).max() <= 2, counts
    tested = [search.tested for search in every_search(0)]
    assert min(tested[1:]) >= 10, "there was something to find"


# -- shared parts --------------------------------------------------------------------------------------------------


def test_drives_sum_over_positions_and_firing_is_the_highest_share() -> None:
    kernel = torch.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(drives(kernel), [[6, 22]])
    fires = firing(torch.stack([torch.arange(20.0), torch.zeros(20)], dim=1))
    assert np.flatnonzero(fires[:, 0]).tolist() == [18, 19]
    assert not fires[:, 1].any()


def test_a_contrast_by_hand_and_by_origins() -> None:
    values = np.array([3.0, 1.0] * 10)
    on = values > 2
    assert contrast(values, on, ~on, None).value == pytest.approx(2)  # the standard deviation is 1
    assert contrast(values, on, ~on, None, sign=-1).value == pytest.approx(-2)
    origins = [f"picture {i // 2}" for i in range(20)]
    inside = contrast(values, on, ~on, origins)
    assert (inside.value, inside.n) == (pytest.approx(2), 10)
    assert inside.p < 0.01
    assert math.isnan(contrast(values, on, ~on, ["one picture"] * 20).p)
    assert math.isnan(contrast(values, np.arange(20) < 2, np.arange(20) > 5, None).p)


def test_pooled_nulls_allow_smaller_p_and_missing_draws_do_not_help() -> None:
    def draw(rng: np.random.Generator) -> np.ndarray:
        return np.where(np.arange(10) < 5, rng.normal(size=10), np.nan)

    pooled = against_shuffles(np.full(10, 9.0), draw, n=1, shuffles=19, seed=0, pooled=True)
    alone = against_shuffles(np.full(10, 9.0), draw, n=1, shuffles=19, seed=0, pooled=False)
    assert pooled[0].p == pytest.approx(1 / 96)
    assert alone[0].p == pytest.approx(1 / 20)
    assert alone[7].p == 1
    assert math.isnan(
        against_shuffles(np.array([np.nan]), lambda _: np.ones(1), n=1, shuffles=5, seed=0, pooled=True)[0].p
    )


def test_both_tests_must_hold_and_all_that_was_tried_counts() -> None:
    tests = [Measurement(1.0, p=0.01), Measurement(1.0, p=0.02), Measurement(1.0, p=0.9), Measurement(1.0, p=0.5)]
    confirmations = [Measurement(1.0, p=0.001), Measurement(1.0, p=0.6), Measurement(1.0), Measurement(1.0)]
    np.testing.assert_allclose(corrected(tests, confirmations), [0.04, 0.6, 1, 1])
    assert weaker([Measurement(3.0, p=0.01), Measurement(1.0, p=0.2)]).value == 1
    assert weaker([Measurement(3.0, p=0.01), Measurement(1.0)]).value == 1


def test_what_does_not_fit_is_one_sentence() -> None:
    kernel, sources = random_kernel(), sparse_sources()
    targets = answers(kernel, sources)
    with pytest.raises(BadInput, match="Activations of targets have shape"):
        unions_over_cases(kernel, sources, targets[:, :3])
    with pytest.raises(BadInput, match="Activations of sources have shape"):
        not_ors(kernel, sources[:, :3], targets)
    with pytest.raises(BadInput, match="one side only"):
        not_ors(kernel, sources)
    with pytest.raises(BadInput, match="finite weights"):
        not_ors(kernel * torch.inf)
    with pytest.raises(BadInput, match="relate some"):
        excite_inhibit_pairs(kernel, torch.zeros(SOURCES, SOURCES, dtype=torch.bool), sources, targets)
    with pytest.raises(BadInput, match="3 labels of sources"):
        superpositions(LabelledLayers(kernel, ["a"] * 3, TARGET_LABELS, sources, targets))
