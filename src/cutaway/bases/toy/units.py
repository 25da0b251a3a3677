"""Small networks whose hidden units could mean one thing: how training choices change how many features a unit answers.

The task is the absolute value of sparse features (Elhage et al. 2022, section on computation in superposition): x_i is
0, or with chance ``activity`` uniform in [-1, 1]; y_i = |x_i|. A rectified unit can compute one half of one feature, so
that a network with two units a feature has no need to mix; a narrower one, or one that is not asked to, may. All
recipes and seeds are trained as one batch. The features are known, so how many a unit answers to is counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput

ACTIVATIONS = ("relu", "solu", "topk")
POOL = 32_768  # examples of a training set that is as good as endless
TOPK_SHARE = 4  # "topk" keeps the largest quarter of the units (by size)
ANNEALED = 0.5  # the share of training in which weights are taken away
TEST_ROWS, TEST_SEED = 2048, 987_654_321
LEVELS = (-1.0, -0.5, 0.5, 1.0)  # at which single features are shown to a unit
START = 0.1  # biases and the scale of outgoing weights: a rectified output that begins below 0 would stay there
LEAST_ANSWER = 0.01  # a unit is alive if it answers with at least this share of the largest answer's energy


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train: hidden units, input activity, and what asks for few features a unit.

    ``l1`` weighs the mean over rows of the summed sizes of activations; ``keep`` is the share of weights that the
    top-magnitude mask of each matrix leaves, reached in the middle of training (Gao et al. 2025, weight-sparse
    transformers); ``solu`` is LayerNorm(z softmax z) (Elhage et al. 2022b); ``examples`` is how many different rows the
    network ever sees.
    """

    name: str
    width: int = 20
    activity: float = 0.1
    activation: str = "relu"
    l1: float = 0.0
    keep: float = 1.0
    examples: int = POOL

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 < self.activity <= 1 or not 0 < self.keep <= 1 or self.l1 < 0:
            raise BadInput(
                f"Recipe {self.name!r}: width {self.width} is at least 1, activity {self.activity:g} and keep "
                f"{self.keep:g} lie above 0 and up to 1, l1 {self.l1:g} is at least 0."
            )
        if self.activation not in ACTIVATIONS or not 1 <= self.examples <= POOL:
            raise BadInput(
                f"Recipe {self.name!r}: the activation is one of {', '.join(ACTIVATIONS)}, found "
                f"{self.activation!r}; examples are 1 to {POOL}, found {self.examples}."
            )


@dataclass(frozen=True, eq=False)
class Course:
    """What one recipe's networks were like on their way, by snapshot.

    ``unexplained`` [snapshot seed]: test error over the error of each feature's mean answer (0 perfect, 1 useless);
    ``features`` [snapshot seed]: mean over live units of the effective number of features; ``single`` [snapshot seed]:
    share of live units with at most 1.5; ``live`` [snapshot seed]: number of live units. The first snapshot is of
    untrained networks. ``answers`` [seed unit feature] are those of the last.
    """

    recipe: Recipe
    steps: tuple[int, ...]
    unexplained: Float[Tensor, "snapshot seed"]
    features: Float[Tensor, "snapshot seed"]
    single: Float[Tensor, "snapshot seed"]
    live: Float[Tensor, "snapshot seed"]
    answers: Float[Tensor, "seed unit feature"]


def effective_number(answers: Float[Tensor, "*units feature"]) -> Float[Tensor, "*units"]:
    """(sum a)^2 / sum a^2 of non-negative answers: k if k features share a unit equally; 0 for a unit without any."""
    square = answers.square().sum(-1)
    return torch.where(square > 0, answers.sum(-1).square() / torch.where(square > 0, square, 1.0), 0.0)


def live_units(answers: Float[Tensor, "*nets unit feature"]) -> Bool[Tensor, "*nets unit"]:
    """Units that answer with at least a hundredth of the energy of their network's strongest unit."""
    energy = answers.sum(-1)
    most = energy.amax(-1, keepdim=True)
    return (energy >= LEAST_ANSWER * most) & (energy > 0)


def at_loss(
    course: Course, target: Float[Tensor, " seed"], values: Float[Tensor, "snapshot seed"]
) -> Float[Tensor, " seed"]:
    """``values`` where each seed's test error first falls to ``target``, between snapshots along the error's logarithm.

    The last value where it never falls so far.
    """
    found = []
    for seed, wanted in enumerate(target.tolist()):
        error, value = course.unexplained[:, seed], values[:, seed]
        below = (error <= wanted).nonzero()
        at = int(below[0]) if len(below) else len(error) - 1
        share = 1.0
        if at and len(below):
            before, after = math.log(float(error[at - 1])), math.log(max(float(error[at]), 1e-12))
            share = (before - math.log(max(wanted, 1e-12))) / (before - after)
        found.append(value[at] if at == 0 else value[at - 1] + share * (value[at] - value[at - 1]))
    return torch.stack(found)


class _Nets(torch.nn.Module):
    """Every recipe times every seed, padded to the widest."""

    def __init__(self, recipes: Sequence[Recipe], features: int, seeds: int, generator: torch.Generator) -> None:
        super().__init__()
        widest = max(recipe.width for recipe in recipes)
        widths = torch.tensor([recipe.width for recipe in recipes]).repeat_interleave(seeds)
        first = torch.randn(seeds, widest, features, generator=generator).repeat(len(recipes), 1, 1)
        second = torch.randn(seeds, features, widest, generator=generator).repeat(len(recipes), 1, 1)
        self.exists = (torch.arange(widest) < widths[:, None])[:, None]  # [net 1 unit]
        self.inward = torch.nn.Parameter(first * self.exists.mT / math.sqrt(features / 2))
        self.outward = torch.nn.Parameter(second * self.exists * START / widths[:, None, None].sqrt())
        self.shift = torch.nn.Parameter(torch.zeros(len(widths), 1, widest))
        self.gain = torch.nn.Parameter(torch.ones(len(widths), 1, widest))
        self.bias = torch.nn.Parameter(torch.full((len(widths), 1, features), START))
        kinds = [recipe.activation for recipe in recipes for _ in range(seeds)]
        self.solu = torch.tensor([kind == "solu" for kind in kinds])
        self.topk = torch.tensor([kind == "topk" for kind in kinds])
        self.count = (widths / TOPK_SHARE).ceil().long()

    def units(self, x: Tensor) -> Tensor:
        """Activations [net row unit] of inputs [net row feature]; SoLU's before its norm."""
        before = torch.baddbmm(self.shift, x, self.inward.mT)
        after = before.clamp(min=0) * self.exists
        if bool(self.solu.any()):
            z = before[self.solu].masked_fill(~self.exists[self.solu], -torch.inf)
            after = after.clone()
            after[self.solu] = z.softmax(-1) * before[self.solu]
        if bool(self.topk.any()):
            after = after.clone()
            after[self.topk] = _largest(before[self.topk] * self.exists[self.topk], self.count[self.topk])
        return after

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Answers [net row feature] and activations [net row unit]."""
        units = self.units(x)
        read = units
        if bool(self.solu.any()):
            read = units.clone()
            read[self.solu] = _normed(units[self.solu], self.exists[self.solu]) * self.gain[self.solu]
        return torch.baddbmm(self.bias, read, self.outward.mT).clamp(min=0), units


def _largest(values: Tensor, count: Tensor) -> Tensor:
    sizes = values.abs().sort(-1, descending=True).values
    least = sizes.gather(-1, (count - 1)[:, None, None].expand(-1, values.shape[1], 1))
    return values * (values.abs() >= least)


def _normed(values: Tensor, exists: Tensor) -> Tensor:
    count = exists.sum(-1, keepdim=True)
    centred = (values - values.sum(-1, keepdim=True) / count) * exists
    return centred / (centred.square().sum(-1, keepdim=True) / count + 1e-5).sqrt()


class _Data:
    """A pool of uniform numbers by seed, cut by each recipe's activity and number of examples."""

    def __init__(self, recipes: Sequence[Recipe], features: int, seeds: int, rows: int, generator: torch.Generator):
        self.value = torch.rand(seeds, rows, features, generator=generator) * 2 - 1
        self.place = torch.rand(seeds, rows, features, generator=generator)
        self.activity = torch.tensor([recipe.activity for recipe in recipes])[:, None, None, None]
        self.examples = torch.tensor([min(recipe.examples, rows) for recipe in recipes])[:, None, None]
        self.generator, self.seeds, self.rows = generator, seeds, rows

    def batch(self, size: int) -> Tensor:
        """Inputs [net row feature]; recipes share their draws as far as their example sets allow."""
        rows = torch.randint(self.rows, (self.seeds, size), generator=self.generator) % self.examples
        seeds = torch.arange(self.seeds)[:, None]
        x = self.value[seeds, rows] * (self.place[seeds, rows] < self.activity)
        return x.flatten(0, 1)


def train_units(
    recipes: Sequence[Recipe],
    *,
    features: int = 20,
    seeds: int = 8,
    steps: int = 3000,
    batch: int = 256,
    lr: float = 5e-3,
    snapshots: int = 24,
    seed: int = 0,
) -> list[Course]:
    """Trains every recipe with every seed by Adam (cosine to 0) and follows error and features a unit on the way."""
    if not recipes or min(features, seeds, steps, batch) < 1 or snapshots < 2:
        raise BadInput("Give a recipe, at least one feature, seed, step and row, and at least two snapshots.")
    generator = torch.Generator().manual_seed(seed)
    nets = _Nets(recipes, features, seeds, generator)
    data = _Data(recipes, features, seeds, POOL, generator)
    test = _Data(recipes, features, 1, TEST_ROWS, torch.Generator().manual_seed(TEST_SEED + seed))
    optimizer = torch.optim.Adam(nets.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    penalty = torch.tensor([recipe.l1 for recipe in recipes]).repeat_interleave(seeds)
    keep = torch.tensor([recipe.keep for recipe in recipes]).repeat_interleave(seeds)
    look = _when(steps, snapshots)
    seen = [_look(nets, test, seeds)]
    for step in range(1, steps + 1):
        x = data.batch(batch)
        said, units = nets(x)
        loss = (said - x.abs()).square().mean(1).sum(-1) + penalty * units.abs().sum(-1).mean(-1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        schedule.step()
        _prune(nets, 1 - (1 - keep) * min(1.0, step / (ANNEALED * steps)))
        if step in look:
            seen.append(_look(nets, test, seeds))
    return [_course(recipe, (0, *look), [each[row] for each in seen]) for row, recipe in enumerate(recipes)]


def _when(steps: int, snapshots: int) -> tuple[int, ...]:
    places = torch.logspace(math.log10(min(20, steps)), math.log10(steps), snapshots - 1).round().int()
    return tuple(sorted({*places.tolist(), steps}))


@torch.no_grad()
def _prune(nets: _Nets, keep: Float[Tensor, " net"]) -> None:
    """Sets all but the largest weights of each matrix to 0; weights of units that do not exist count for nothing."""
    pruned = keep < 1
    if not bool(pruned.any()):
        return
    for weights, exists in ((nets.inward, nets.exists.mT), (nets.outward, nets.exists)):
        some = weights[pruned]
        flat = some.abs().flatten(1).sort(-1, descending=True).values
        there = exists[pruned].expand_as(some).flatten(1).sum(-1)
        last = (keep[pruned] * there).ceil().long().clamp(min=1) - 1
        weights[pruned] = some * (some.abs() >= flat.gather(1, last[:, None])[..., None])


@dataclass(frozen=True, eq=False)
class _Seen:
    unexplained: Tensor
    answers: Tensor


@torch.no_grad()
def _look(nets: _Nets, test: _Data, seeds: int) -> list[_Seen]:
    """Test error and single-feature answers of each recipe's networks."""
    every = torch.arange(test.rows)
    x = (test.value[0, every] * (test.place[0, every] < test.activity[:, 0])).repeat_interleave(seeds, 0)
    wanted = x.abs()
    error = (nets(x)[0] - wanted).square().sum(-1).mean(-1)
    spread = (wanted - wanted.mean(1, keepdim=True)).square().sum(-1).mean(-1)
    answers = _answers(nets, x.shape[-1])
    return [_Seen(e, a) for e, a in zip((error / spread).split(seeds), answers.split(seeds))]


@torch.no_grad()
def _answers(nets: _Nets, features: int) -> Float[Tensor, "net unit feature"]:
    """Energy of each unit's change, against no input, to each feature alone, summed over :data:`LEVELS`."""
    single = torch.cat([torch.eye(features) * level for level in LEVELS] + [torch.zeros(1, features)])
    units = nets.units(single.expand(len(nets.shift), -1, -1))
    change = units[:, :-1] - units[:, -1:]
    return change.view(len(units), len(LEVELS), features, -1).square().sum(1).mT


def _course(recipe: Recipe, steps: tuple[int, ...], seen: list[_Seen]) -> Course:
    rows = []
    for each in seen:
        answers = each.answers[:, : recipe.width]
        live, number = live_units(answers), effective_number(answers)
        count = live.sum(-1).clamp(min=1)
        rows.append(((number * live).sum(-1) / count, ((number <= 1.5) & live).sum(-1) / count, live.sum(-1).float()))
    features, single, alive = (torch.stack(each) for each in zip(*rows))
    error = torch.stack([each.unexplained for each in seen])
    return Course(recipe, steps, error, features, single, alive, seen[-1].answers[:, : recipe.width])
