"""Toy models of superposition: gradients against autograd, known geometries, phases, and what is drawn."""

import math
from typing import Any

import pytest
import torch

from cutaway.bases.toy import (
    PHASES,
    Settings,
    dimensionality,
    dimensions_per_feature,
    draw,
    nearest_plateau,
    phase_diagram,
    plateau,
    represented,
    settings,
    shapes,
    theory_border,
    theory_losses,
    train,
)
from cutaway.bases.toy.geometry import _crowding
from cutaway.bases.toy.training import gradient
from cutaway.errors import BadInput


def ring(count: int) -> torch.Tensor:
    """Unit vectors at equal angles, [2 count]."""
    angles = torch.arange(count) * (2 * math.pi / count)
    return torch.stack([angles.cos(), angles.sin()])


def tetrahedron() -> torch.Tensor:
    corners = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return (corners / math.sqrt(3)).T


@pytest.mark.parametrize(
    ("weights", "wanted"),
    [
        (torch.eye(3), [1.0, 1, 1]),
        (torch.tensor([[1.0, -1.0]]), [0.5, 0.5]),
        (ring(3), [2 / 3] * 3),
        (ring(5), [0.4] * 5),
        (tetrahedron(), [0.75] * 4),
        (torch.tensor([[2.0, 1.0], [0.0, 0.0]]), [16 / 20, 1 / 5]),  # 4^2 / (16 + 4), 1 / (4 + 1)
        (torch.tensor([[1.0, 0.0]]), [1.0, 0.0]),
    ],
)
def test_dimensionality_by_hand(weights: torch.Tensor, wanted: list[float]) -> None:
    assert dimensionality(weights).tolist() == pytest.approx(wanted, abs=1e-6)


def test_dimensionality_is_what_the_paper_writes_and_sums_to_no_more_than_the_rank() -> None:
    weights = torch.randn(7, 4, 9, generator=torch.Generator().manual_seed(0))
    found = dimensionality(weights)
    unit = weights / weights.norm(dim=-2, keepdim=True)
    by_paper = weights.square().sum(-2) / (unit.mT @ weights).square().sum(-1)
    assert torch.allclose(found, by_paper, atol=1e-6)
    assert bool((found.sum(-1) <= 4 + 1e-5).all())
    assert bool((dimensionality(ring(6)).sum() - 2).abs() < 1e-5)
    assert dimensions_per_feature(torch.eye(3)).item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("value", "name"), [(0.97, "dedicated"), (0.52, "digon"), (0.405, "pentagon"), (0.7, "triangle")]
)
def test_nearest_plateau(value: float, name: str) -> None:
    assert nearest_plateau(value)[0] == name


def test_shapes_are_found_in_orthogonal_parts() -> None:
    weights = torch.zeros(5, 7)
    weights[:2, [0, 3, 6]] = ring(3)
    weights[2, 1], weights[2, 4] = 1.0, -1.0
    weights[3, 2] = 1.0
    weights[4, 5] = 0.3  # too short to be represented
    found = shapes(weights)
    assert [shape.features for shape in found] == [(0, 3, 6), (1, 4), (2,)]
    assert [shape.figure for shape in found] == ["triangle", "digon", "dedicated"]
    assert [shape.rank for shape in found] == [2, 1, 1]
    assert max(shape.off for shape in found) < 1e-6
    assert represented(weights).tolist() == [True] * 5 + [False, True]
    assert shapes(torch.zeros(2, 3)) == []


@pytest.mark.parametrize("output", ["relu", "linear"])
def test_the_written_gradient_is_that_of_autograd(output: Any) -> None:
    asked = settings([0.3, 0.9], features=4, hidden=3, decay=0.8, output=output)
    generator = torch.Generator().manual_seed(1)
    x = draw(asked, seeds=2, rows=64, generator=generator).flatten(0, 1)
    weights = torch.randn(4, 3, 4, generator=generator, requires_grad=True)
    bias = (torch.randn(4, 4, generator=generator) * 0.3).requires_grad_()
    some = 1 - (1 - torch.tensor([0.3, 0.3, 0.9, 0.9])) ** 4
    importance = 0.8 ** torch.arange(4.0)

    def lost(rows: torch.Tensor) -> torch.Tensor:
        said = torch.einsum("nmf,nbm->nbf", weights, torch.einsum("nmf,nbf->nbm", weights, rows)) + bias[:, None]
        said = said.relu() if output == "relu" else said
        return (importance * (said - rows).square()).sum(-1).mean(-1)

    wanted = some * lost(x) + (1 - some) * lost(torch.zeros(4, 1, 4))
    by_autograd = torch.autograd.grad(wanted.sum(), [weights, bias])
    found = gradient(asked, weights.detach(), bias.detach(), x)
    assert torch.allclose(found.loss, wanted, atol=1e-5)
    assert torch.allclose(found.weights, by_autograd[0], atol=1e-5)
    assert torch.allclose(found.bias, by_autograd[1], atol=1e-5)


@pytest.mark.parametrize(("pairs", "together"), [("independent", 0.01), ("correlated", 0.1), ("anticorrelated", 0.0)])
def test_what_is_drawn_is_active_as_often_as_asked(pairs: Any, together: float) -> None:
    asked = settings([0.1], features=6, hidden=2, pairs=pairs)
    x = draw(asked, seeds=1, rows=200_000, generator=torch.Generator().manual_seed(0))[0, 0]
    assert bool((x > 0).any(1).all())
    share = (x > 0).double().mean(0) * asked.some_active.item()
    assert share.tolist() == pytest.approx([0.1] * 6, abs=0.004)
    both = ((x[:, 0] > 0) & (x[:, 1] > 0)).double().mean() * asked.some_active.item()
    assert both.item() == pytest.approx(together, abs=0.003)
    apart = ((x[:, 0] > 0) & (x[:, 2] > 0)).double().mean() * asked.some_active.item()
    assert apart.item() == pytest.approx(0.01, abs=0.003)  # members of different groups are independent
    assert x[x > 0].mean().item() == pytest.approx(0.5, abs=0.01)


def test_five_features_in_two_units_make_a_pentagon() -> None:
    toys = train(settings([0.05], features=5, hidden=2), seeds=4, steps=500, lr=2e-2)
    found = dimensionality(toys.best_weights)[0]
    assert found.tolist() == pytest.approx([0.4] * 5, abs=0.01)
    gram = toys.best_weights[0].T @ toys.best_weights[0]
    cosines = gram / gram.diagonal().sqrt().outer(gram.diagonal().sqrt())
    assert cosines[0].sort().values.tolist() == pytest.approx([-0.809, -0.809, 0.309, 0.309, 1.0], abs=0.02)
    assert [shape.figure for shape in shapes(toys.best_weights[0])] == ["pentagon"]
    assert (dimensionality(toys.untrained)[0] - 0.4).abs().max() > 0.1
    assert bool((toys.loss < 0.3 * toys.loss_of_means[:, None]).all())


def test_dense_features_get_places_of_their_own_by_importance() -> None:
    toys = train(settings([1.0], features=5, hidden=2, decay=0.9), seeds=6, steps=500, lr=2e-2)
    found = dimensionality(toys.best_weights)[0]
    assert bool((found[:2] > 0.9).all()) and bool((found[2:] < 0.1).all())
    assert represented(toys.best_weights)[0].tolist() == [True, True, False, False, False]


def test_a_linear_network_never_shares() -> None:
    toys = train(settings([0.05], features=5, hidden=2, decay=0.7, output="linear"), seeds=2, steps=600, lr=2e-2)
    found = dimensionality(toys.weights)
    assert bool((found[..., :2] > 0.9).all()) and bool((found[..., 2:] < 0.1).all())


def test_pairs_that_never_meet_share_a_direction_and_pairs_that_always_meet_do_not() -> None:
    """Four features in two units: which features pair up is the data's choice."""
    options: dict[str, Any] = {"seeds": 6, "steps": 400, "batch": 128, "lr": 2e-2}
    never = train(settings([0.1], features=4, hidden=2, pairs="anticorrelated"), **options)
    always = train(settings([0.1], features=4, hidden=2, pairs="correlated"), **options).best_weights[0]
    assert {shape.features for shape in shapes(never.best_weights[0])} == {(0, 1), (2, 3)}
    assert never.loss.min() < 1e-4  # what never meets does not interfere
    gram = always.T @ always
    assert gram[[0, 2], [1, 3]].abs().max() < 0.2


@pytest.mark.parametrize(
    ("features", "hidden", "level", "sparser"),
    [(6, 3, 1 / 2, [0.5] * 6), (3, 2, 2 / 3, [0.5, 0.5, 1.0]), (4, 3, 3 / 4, [0.5, 0.5, 1.0, 1.0])],
)
def test_plateaus_appear_in_a_sweep_over_activity(
    features: int, hidden: int, level: float, sparser: list[float]
) -> None:
    """Each figure where features are active six times in ten; sparser ones prefer antipodal pairs."""
    toys = train(settings([0.2, 0.6], features=features, hidden=hidden), seeds=3, steps=500, batch=512, lr=2e-2)
    pairs, found = dimensionality(toys.best_weights)
    assert (found - level).abs().median() < 0.02
    assert (dimensionality(toys.untrained[0]) - level).abs().median(1).values.min() > 0.05
    assert pairs.sort().values.tolist() == pytest.approx(sparser, abs=0.02)


def test_crowding_by_hand() -> None:
    """Two within 0.015, one beside them, one far away: (2 + 1) / (1 + 1)."""
    assert _crowding(torch.tensor([0.5, 0.51, 0.52, 0.6]), 0.5, 0.015) == 1.5


def test_crowding_at_a_plateau_by_hand_and_against_untrained_directions() -> None:
    """Twenty digons: 40 features within, none beside (41 / 1); a generic frame crowds nowhere."""
    pairs = torch.zeros(20, 2, 3)
    pairs[:, 0, 0], pairs[:, 0, 1], pairs[:, 1, 2] = 1.0, -1.0, 1.0
    found = plateau(pairs, 0.5, draws=99)
    assert found.value == 41 and found.n == 60 and found.p <= 0.05
    assert plateau(pairs, 0.75, draws=99).p > 0.05
    generic = torch.randn(200, 3, 5, generator=torch.Generator().manual_seed(0))
    assert plateau(generic / generic.norm(dim=1, keepdim=True), 0.6, draws=99).p > 0.05


def test_the_phase_diagram_is_the_theory_away_from_its_borders() -> None:
    found = phase_diagram(torch.tensor([0.2, 1.0, 5.0]), torch.tensor([0.05, 0.9]), seeds=4, steps=400)
    named = [[PHASES[int(cell)] for cell in row] for row in found.phase]
    assert [row[0] for row in named] == ["superposition"] * 3
    assert named[0][1] == "not represented" and named[2][1] == "dedicated"
    assert bool((found.phase == found.theory)[[0, 2]].all())
    assert found.phases.shape == (3, 2, 4)


def test_theory_by_hand() -> None:
    """p = 1, I = 1: variances are 1 / 12, and two features on one unit cost 2 / 6."""
    assert theory_losses(torch.tensor(1.0), torch.tensor(1.0)).tolist() == pytest.approx([1 / 12, 1 / 12, 1 / 3])
    border = theory_border(torch.tensor([1.0, 0.1]).numpy())
    assert border.tolist() == pytest.approx([4 / 7, 0.4 / 2.5])
    at = theory_losses(torch.tensor(float(border[1])), torch.tensor(0.1))
    assert at[0].item() == pytest.approx(at[2].item(), rel=1e-4)


def test_antipodal_features_cost_what_the_theory_says() -> None:
    asked = Settings(torch.tensor([0.4]), torch.tensor([[1.0, 3.0]]), hidden=1)
    x = draw(asked, seeds=1, rows=400_000, generator=torch.Generator().manual_seed(0)).flatten(0, 1)
    found = gradient(asked, torch.tensor([[[1.0, -1.0]]]), torch.zeros(1, 2), x)
    wanted = theory_losses(torch.tensor(0.4), torch.tensor(3.0))[2]
    assert found.loss.item() == pytest.approx(wanted.item(), rel=0.01)


def test_the_same_seed_gives_the_same_weights_and_settings_do_not_disturb_each_other() -> None:
    options = {"seeds": 2, "steps": 30, "batch": 32}
    many = train(settings([0.1, 0.5], features=4, hidden=2), **options)
    again = train(settings([0.1, 0.5], features=4, hidden=2), **options)
    alone = train(settings([0.5], features=4, hidden=2), **options)
    assert torch.equal(many.weights, again.weights)
    assert torch.allclose(many.weights[1], alone.weights[0], atol=1e-5)
    assert not torch.allclose(many.weights[1, 0], many.weights[1, 1], atol=1e-2)
    other = train(settings([0.1, 0.5], features=4, hidden=2), seed=1, **options)
    assert not torch.allclose(other.weights, many.weights, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activity": [0.0]}, "above 0"),
        ({"activity": [0.6], "pairs": "anticorrelated"}, "up to 0.5"),
        ({"decay": -1}, "negative"),
        ({"hidden": 0}, "at least one"),
        ({"output": "gelu"}, "relu, linear"),
        ({"features": 5, "pairs": "correlated"}, "even number"),
    ],
)
def test_what_cannot_be_trained_is_refused(change: dict[str, Any], said: str) -> None:
    options: dict[str, Any] = {"activity": [0.1], "features": 6, "hidden": 2} | change
    with pytest.raises(BadInput, match=said):
        settings(options.pop("activity"), **options)


def test_nothing_to_train_and_nothing_represented_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 1"):
        train(settings([0.1], features=4, hidden=2), steps=0)
    with pytest.raises(BadInput, match="No feature is represented"):
        plateau(torch.zeros(2, 3), 0.5)
    with pytest.raises(BadInput, match="not finite"):
        train(settings([0.1], features=4, hidden=2), steps=50, lr=1e30)
