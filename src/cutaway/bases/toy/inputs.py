"""What a toy network is shown and asked: sparse features of known importance, alone or in pairs.

A feature is 0 unless it is active, and then uniform in [0, 1]. Features come in groups that are active independently of
each other: every feature alone, or pairs (0, 1), (2, 3), ... whose members are active together or never together.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cutaway.errors import BadInput

OUTPUTS = ("relu", "linear")
PAIRS = ("independent", "correlated", "anticorrelated")
Numbers = Tensor | list[float] | tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Settings:
    """Toy networks of one shape, to be trained side by side.

    ``activity`` [setting] is the chance that a feature is active, in (0, 1]; ``importance`` [setting feature] weighs
    squared errors; ``hidden`` is the number of units m that n features have to share; ``output`` and
    ``pairs`` are among :data:`OUTPUTS` and :data:`PAIRS`. With pairs that are never active
    together an activity of at most 1/2 is possible.
    """

    activity: Float[Tensor, " setting"]
    importance: Float[Tensor, "setting feature"]
    hidden: int
    output: str = "relu"
    pairs: str = "independent"

    def __post_init__(self) -> None:
        most = 0.5 if self.pairs == "anticorrelated" else 1.0
        if not bool(((self.activity > 0) & (self.activity <= most)).all()):
            raise BadInput(f"Activities of {self.activity.tolist()} were given; each lies above 0 and up to {most:g}.")
        if not bool((torch.isfinite(self.importance) & (self.importance >= 0)).all()):
            raise BadInput("Importances that are negative or not finite were given; give weights of at least 0.")
        if self.hidden < 1:
            raise BadInput(f"{self.hidden} hidden units were asked for; a toy network has at least one.")
        if self.output not in OUTPUTS or self.pairs not in PAIRS:
            raise BadInput(
                f"output={self.output!r}, pairs={self.pairs!r}: the outputs are {', '.join(OUTPUTS)}, "
                f"the pairs {', '.join(PAIRS)}."
            )
        if self.pairs != "independent" and self.features % 2:
            raise BadInput(f"{self.features} features do not make pairs; take an even number.")

    @property
    def features(self) -> int:
        """Number of features n."""
        return int(self.importance.shape[1])

    @property
    def group(self) -> int:
        """Features of one group."""
        return 1 if self.pairs == "independent" else 2

    @property
    def group_activity(self) -> Float[Tensor, " setting"]:
        """Chance that a group has an active member."""
        return self.activity * 2 if self.pairs == "anticorrelated" else self.activity

    @property
    def some_active(self) -> Float[Tensor, " setting"]:
        """Chance that not all features are 0."""
        return 1 - (1 - self.group_activity).pow(self.features // self.group)


def settings(
    activity: Numbers,
    *,
    features: int,
    hidden: int,
    decay: float | int = 1.0,
    output: str = "relu",
    pairs: str = "independent",
) -> Settings:
    """One setting for each activity; feature i has importance ``decay ** i`` in all of them."""
    chances = torch.as_tensor(activity, dtype=torch.float32)
    weights = float(decay) ** torch.arange(features, dtype=torch.float32)
    return Settings(chances, weights.expand(len(chances), features).clone(), hidden, output, pairs)


def draw(
    asked: Settings, *, seeds: int, rows: int, generator: torch.Generator
) -> Float[Tensor, "setting seed row feature"]:
    """Inputs among those that are not all zero.

    All settings see the same random numbers, so that they differ by nothing else; seeds have their own. Which group is
    the first active one is drawn from its truncated geometric distribution, the groups behind it are free.
    """
    groups = asked.features // asked.group
    chance = asked.group_activity.double()[:, None, None]
    first = torch.rand(seeds, rows, generator=generator, dtype=torch.float64)
    place = torch.rand(seeds, rows, groups, generator=generator)
    values = torch.rand(seeds, rows, asked.features, generator=generator)
    miss = torch.log1p(-chance.clamp(max=1 - 1e-12))
    leader = torch.log1p(-first * asked.some_active.double()[:, None, None]) / miss
    leader = leader.floor().clamp(0, groups - 1)[..., None]
    order = torch.arange(groups)
    forced = order == leader
    chance = chance[..., None].float()
    active = forced | ((order > leader) & (place < chance))
    if asked.group == 1:
        return values * active
    member = active[..., None].expand(*active.shape, 2)
    if asked.pairs == "anticorrelated":
        # Given that a group is active, where its random number fell below the chance is again uniform.
        early = torch.where(forced, place.expand_as(active), place / chance) < 0.5
        member = member & torch.stack([early, ~early], -1)
    return values * member.flatten(-2)
