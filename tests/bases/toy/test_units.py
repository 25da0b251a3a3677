"""Small networks with hidden units: counting features, masks, activations, matched error, and that choices matter."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from cutaway.bases.toy import Course, Recipe, at_loss, effective_number, live_units, train_units
from cutaway.bases.toy.units import _answers, _Nets, _prune
from cutaway.errors import BadInput


def nets(*recipes: Recipe, features: int = 3) -> _Nets:
    return _Nets(recipes, features, 1, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [([1.0, 0, 0], 1), ([1.0, 1, 0], 2), ([2.0, 2, 2], 3), ([0.0, 0, 0], 0), ([3.0, 1, 0], 16 / 10)],
)
def test_effective_number_by_hand(answers: list[float], wanted: float) -> None:
    assert effective_number(torch.tensor(answers)).item() == pytest.approx(wanted)


def test_planted_units_answer_to_the_features_that_they_were_given() -> None:
    """Units that read one, two and three features, one of them for both signs, and one that reads nothing."""
    planted = nets(Recipe(name="planted", width=4))
    with torch.no_grad():
        planted.inward[:] = torch.tensor([[1.0, 0, 0], [1, -1, 0], [1, 1, 1], [0, 0, 0]])
        planted.shift.zero_()
    found = _answers(planted, 3)[0]
    # One sign of each feature passes the rectifier: 0.5^2 + 1^2.
    assert torch.equal(found, 1.25 * torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]]))
    assert effective_number(found).tolist() == pytest.approx([1, 2, 3, 0])
    assert live_units(found).tolist() == [True, True, True, False]
    assert live_units(torch.tensor([[1.0, 0], [0.005, 0]])).tolist() == [True, False]


def test_masks_leave_the_largest_weights_of_units_that_exist() -> None:
    pruned = nets(Recipe(name="wide", width=4), Recipe(name="narrow", width=2, keep=0.5))
    before = pruned.inward.detach().clone()
    _prune(pruned, torch.tensor([1.0, 0.5]))
    assert torch.equal(pruned.inward[0], before[0])
    kept = pruned.inward[1].abs()
    assert int((kept > 0).sum()) == 3  # half of 2 x 3
    assert kept[kept > 0].min() >= before[1, :2].abs().flatten().sort().values[3]


def test_activations_by_hand() -> None:
    each = nets(*(Recipe(name=kind, width=4, activation=kind) for kind in ("relu", "solu", "topk")))
    with torch.no_grad():
        each.inward.zero_()
        each.shift[:] = torch.tensor([1.0, -3, 2, 0])
    found = each.units(torch.zeros(3, 1, 3))[:, 0]
    assert found[0].tolist() == [1, 0, 2, 0]
    z = torch.tensor([1.0, -3, 2, 0])
    assert torch.allclose(found[1], z * z.softmax(0))
    assert found[2].tolist() == [0, -3, 0, 0]  # a quarter of four units, by size


def course(errors: list[float], values: list[float]) -> Course:
    rows = torch.tensor(values)[:, None]
    return Course(
        Recipe(name="c"), tuple(range(len(errors))), torch.tensor(errors)[:, None], rows, rows, rows, rows[None]
    )


@pytest.mark.parametrize(
    ("target", "wanted"),
    [(1.0, 8.0), (0.1, 4.0), (0.1**1.5, 3.0), (0.01, 2.0), (0.001, 2.0), (2.0, 8.0)],
)
def test_values_at_an_error_lie_between_snapshots(target: float, wanted: float) -> None:
    """Halfway from 0.1 to 0.01 on a logarithmic scale is halfway from 4 to 2; what is never reached is the end."""
    path = course([1.0, 0.1, 0.01], [8.0, 4.0, 2.0])
    assert at_loss(path, torch.tensor([target]), path.features).item() == pytest.approx(wanted, abs=1e-4)


def test_activity_and_masks_change_how_many_features_a_unit_answers_to() -> None:
    recipes = [
        Recipe(name="narrow", width=4, activity=0.1),
        Recipe(name="wide", width=16, activity=0.1),
        Recipe(name="narrow, dense inputs", width=4, activity=0.9),
        Recipe(name="sparse weights", width=16, activity=0.1, keep=0.15),
    ]
    narrow, wide, dense, sparse = train_units(recipes, features=8, seeds=4, steps=300, batch=128, lr=1e-2, snapshots=3)
    assert narrow.features[-1].mean() > dense.features[-1].mean() + 0.3
    assert wide.features[-1].mean() > sparse.features[-1].mean() + 0.5
    assert wide.unexplained[-1].mean() < 0.5 * narrow.unexplained[-1].mean()
    assert narrow.features[0].mean() > narrow.features[-1].mean()  # untrained units answer to everything
    assert wide.steps[-1] == 300 and wide.answers.shape == (4, 16, 8)


def test_few_examples_are_learned_by_heart() -> None:
    few, many = train_units(
        [Recipe(name="few", examples=20), Recipe(name="many")], features=8, seeds=2, steps=200, lr=1e-2, snapshots=3
    )
    assert few.unexplained[-1].mean() > many.unexplained[-1].mean() + 0.1


def test_a_recipe_trains_alike_alone_and_among_others() -> None:
    options: dict[str, Any] = {"features": 4, "seeds": 2, "steps": 20, "batch": 16, "snapshots": 2}
    one = Recipe(name="one", width=6)
    alone, again = (train_units([one], **options)[0] for _ in range(2))
    among = train_units([replace(one, name="other", activation="solu"), one], **options)[1]
    assert torch.equal(alone.answers, again.answers)
    assert torch.allclose(alone.answers, among.answers, atol=1e-5)


@pytest.mark.parametrize(
    "change", [{"width": 0}, {"activity": 0.0}, {"keep": 0.0}, {"l1": -1.0}, {"activation": "tanh"}, {"examples": 0}]
)
def test_recipes_that_make_no_sense_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="'bad'"):
        Recipe(name="bad", **change)
    with pytest.raises(BadInput, match="two snapshots"):
        train_units([Recipe(name="one")], snapshots=1)
