import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence import probe, probe_direction


def design(pairs=8, templates=6):
    """Rows of a marker-pair design: labels, groups (pairs), entities (markers)."""
    rows = [(pair, side) for pair in range(pairs) for side in (0, 1) for _ in range(templates)]
    return [side for _, side in rows], [pair for pair, _ in rows], [f"{pair}/{side}" for pair, side in rows]


def activations(rng, labels, entities, d=24, concept=0.0, word=1.0, noise=0.3):
    """Concept along axis 0, plus a random vector for each word (entity), plus noise."""
    words = {name: rng.normal(size=d) * word for name in dict.fromkeys(entities)}
    acts = np.stack([words[name] for name in entities]) + noise * rng.normal(size=(len(labels), d))
    acts[:, 0] += concept * (2 * np.array(labels) - 1)
    return torch.tensor(acts, dtype=torch.float32)


def test_a_planted_direction_is_found():
    labels, groups, entities = design(pairs=12)
    acts = activations(np.random.default_rng(0), labels, entities, concept=4.0)
    found = probe(acts, labels, groups, entities)
    assert found.auroc.value > 0.95
    assert found.auroc.p < 0.02
    assert found.selectivity.value == pytest.approx(found.accuracy - found.control_accuracy)
    assert found.selectivity.value > 0.3
    assert found.selectivity.p < 0.02
    assert found.auroc.n == 24
    assert found.auroc.low < found.auroc.value <= found.auroc.high
    assert found.direction[0] > 0.5
    assert found.direction.norm() == pytest.approx(1.0)
    assert len(found.null_aurocs) == 199


def test_memorised_words_do_not_generalise():
    # no concept, only words: rows of a seen word are told apart, those of a held-out word are not
    labels, groups, entities = design()
    found = probe(activations(np.random.default_rng(0), labels, entities), labels, groups, entities)
    assert found.seen_auroc > 0.95
    assert found.seen_control_auroc > 0.95
    assert found.auroc.p > 0.05
    assert abs(found.auroc.value - 0.5) < 0.25


def randomised_p(found, rng):
    """Few words give few distinct AUROCs; ties broken by a coin make p continuous (without, it is conservative)."""
    null, value = found.null_aurocs, found.auroc.value
    above, ties = (null > value + 1e-9).sum(), (np.abs(null - value) <= 1e-9).sum()
    assert found.auroc.p == pytest.approx((1 + above + ties) / (1 + len(null)))
    return (above + rng.random() * (1 + ties)) / (1 + len(null))


@pytest.mark.parametrize("kind", ["matched pairs", "one class a group"])
def test_p_is_uniform_on_random_features(kind):
    labels, groups, entities = design(pairs=6, templates=1)
    if kind == "one class a group":
        groups = entities
    rng, p, values = np.random.default_rng(2), [], []
    for seed in range(500):
        acts = activations(rng, labels, entities, d=4)
        found = probe(acts, labels, groups, entities, folds=3, shuffles=99, resamples=20, seed=seed)
        p.append(randomised_p(found, rng))
        values.append(found.auroc.value)
    assert stats.kstest(p, "uniform").pvalue > 0.02
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)


def test_scores_by_hand():
    # d = 1, difference in means; train on pair b: rows 0, 4 (mean 2, deviation 2); score of x = (x - 2) / 2 times
    # the standardised difference of means (4 - 0) / 2 = 2
    acts = torch.tensor([[1.0], [3.0], [0.0], [4.0]])
    found = probe(acts, [0, 1, 0, 1], ["a", "a", "b", "b"], ["a0", "a1", "b0", "b1"], ridge=math.inf, shuffles=19)
    assert found.scores[:2] == pytest.approx([-1.0, 1.0])
    # train on pair a: mean 2, deviation 1, difference of means 2
    assert found.scores[2:] == pytest.approx([-4.0, 4.0])
    assert found.auroc.value == 1.0
    assert found.accuracy == 1.0
    assert found.direction.item() == 1.0
    assert math.isnan(found.seen_auroc)


def test_direction_is_that_of_ridge_regression():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 40)
    acts = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5] + labels[:, None]
    standard = (acts - acts.mean(axis=0)) / acts.std(axis=0)
    coded = np.where(labels, 1 / labels.sum(), -1 / (1 - labels).sum())
    expected = Ridge(alpha=0.5 * 5).fit(standard, coded).coef_ / acts.std(axis=0)  # mean eigenvalue: d = 5
    found = probe_direction(torch.tensor(acts), labels, ridge=0.5)
    assert found.numpy() == pytest.approx(expected / np.linalg.norm(expected))


def test_nothing_about_a_held_out_group_leaks():
    labels, groups, entities = design(pairs=4, templates=2)
    acts = activations(np.random.default_rng(4), labels, entities, concept=1.0)
    held = np.array(groups) == 0
    changed = acts.clone()
    changed[held] += 1000 * torch.randn(int(held.sum()), acts.shape[1], generator=torch.Generator().manual_seed(0))
    flipped = np.where(held, 1 - np.array(labels), labels)
    before = probe(acts, labels, groups, entities, shuffles=19).scores
    assert probe(acts, flipped, groups, entities, shuffles=19).scores[held] == pytest.approx(before[held])
    moved = probe(changed, labels, groups, entities, shuffles=19).scores[held]
    # scores of the group are an affine function of its rows, the same one before and after
    rows = np.vstack([acts[held].numpy(), changed[held].numpy()])
    fit = np.linalg.lstsq(np.c_[rows, np.ones(len(rows))], np.r_[before[held], moved], rcond=None)[0]
    assert np.c_[rows, np.ones(len(rows))] @ fit == pytest.approx(np.r_[before[held], moved], abs=1e-3, rel=1e-4)


def test_many_groups_are_merged_into_balanced_folds():
    labels, groups, entities = design(pairs=20, templates=2)
    acts = activations(np.random.default_rng(5), labels, entities, concept=4.0)
    found = probe(acts, labels, groups, entities, folds=5, shuffles=19)
    assert len(set(found.folds.tolist())) == 5
    for pair in range(20):
        assert len(set(found.folds[np.array(groups) == pair].tolist())) == 1
    assert found.auroc.value > 0.9


def test_same_seed_same_numbers_and_scale_does_not_matter():
    labels, groups, entities = design(pairs=5)
    acts = activations(np.random.default_rng(6), labels, entities, concept=1.0).double()
    first, again = (probe(acts, labels, groups, entities, shuffles=19, seed=1) for _ in range(2))
    assert first.auroc == again.auroc
    scaled = probe(acts * 100 + 7, labels, groups, entities, shuffles=19, seed=1)
    assert scaled.scores == pytest.approx(first.scores)


def test_dead_units_are_ignored():
    labels, groups, entities = design(pairs=4)
    acts = activations(np.random.default_rng(7), labels, entities, concept=2.0)
    padded = torch.cat([acts, torch.full((len(acts), 3), 0.1)], dim=1)
    found = probe(padded, labels, groups, entities, shuffles=19)
    assert torch.all(found.direction[-3:] == 0)
    with pytest.raises(NotTestable, match="no direction between them"):
        probe_direction(torch.ones(4, 2), [0, 1, 0, 1])


@pytest.mark.parametrize(
    ("labels", "groups", "entities", "error", "words"),
    [
        ([0, 1, 0, 1], [0, 0, 1, 1], ["x", "y", "x", "z"], BadInput, "two groups"),
        ([0, 0, 0, 1], [0, 1, 2, 3], [0, 1, 2, 3], NotTestable, "cannot be split"),
        ([0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 2, 3], NotTestable, "1 groups cannot be split"),
    ],
)
def test_designs_that_hold_nothing_out(labels, groups, entities, error, words):
    with pytest.raises(error, match=words):
        probe(torch.randn(4, 2), labels, groups, entities)


def test_activations_that_are_not_finite():
    with pytest.raises(BadInput, match="not finite"):
        probe(torch.tensor([[1.0], [math.nan]]), [0, 1], [0, 1], [0, 1])
