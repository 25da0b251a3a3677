"""The workflow: orbits of a site and of its null networks, then families; and what a network is with fewer weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.circuits.edits import convolution_into, with_kernels
from cutaway.errors import BadInput
from cutaway.evidence import Measurement, shuffled_weights, untrained_twin
from cutaway.features.tuning.responses import natural_pixels
from cutaway.networks.network import Batch, Network
from cutaway.stimuli import StimulusSet, builtin_photographs
from cutaway.structure.families.find import Families, find_families, pair_level
from cutaway.structure.families.orbits import crops, observe_orbits, orbit_side
from cutaway.structure.families.symmetrize import Poses, Symmetrised, confirm, symmetrised
from cutaway.structure.families.transforms import Group, group

Progress = Callable[[int, int, str], None]


def _silent(_done: int, _total: int, _what: str) -> None:
    pass


def families(
    network: Network,
    site: str,
    *,
    under: str | Group = "rotation",
    stimuli: StimulusSet | None = None,
    count: int = 96,
    window: int = 0,
    twins: int = 1,
    seed: int = 0,
    progress: Progress = _silent,
) -> Families:
    """The families of units of a feature map that are one unit up to a transformation (``rotation``, ``scale``,
    ``hue`` or a :class:`Group`), found from their answers alone.

    ``count`` natural crops are shown under every transformation, to the network and to ``twins`` seeds each of an
    untrained twin and of shuffled weights; pairs count from the level that no more than one in a thousand pairs of
    those reach. ``window`` is how many positions around the middle are taken in (0: the middle alone;
    :func:`.orbits.window_of` is tuning's, and with it a random network had a family). Raises ``NotTestable`` for a site
    that is no feature map.
    """
    chosen = group(under) if isinstance(under, str) else under
    worlds: list[tuple[str, Network]] = [(network.name, network)]
    for number in range(twins):
        worlds.append((f"untrained twin, seed {seed + number}", untrained_twin(network, seed=seed + number)))
        worlds.append((f"shuffled weights, seed {seed + number}", shuffled_weights(network, seed=seed + number)))
    # The same crops and window for all: the receptive field is the architecture's, hard to measure in a null network.
    pictures = crops(stimuli or builtin_photographs(), count, orbit_side(network, site, window=window), seed=seed)
    found = []
    for index, (name, world) in enumerate(worlds):
        progress(index, len(worlds), f"{count} crops under {chosen.size} transformations to {name}")
        found.append(observe_orbits(world, site, chosen, window=window, pictures=pictures))
    levels = [pair_level(orbits) for orbits in found[1:]]
    return find_families(found[0], twin_level=max(levels, default=0.0), seed=seed)


@dataclass(frozen=True, eq=False)
class Compression:
    """What tying a block's weights by families costs and saves.

    ``loss`` is how much behaviour changes with the tied weights in place (see :func:`behaviour_loss`), ``r2`` the share
    of the tied weights' energy that is kept, against permuted poses, and ``r2_twin`` what the same poses keep of an
    untrained twin's weights; ``rows`` the same for fewer ties, most faithful targets first.
    """

    target: str
    source: str
    factor: float
    tied: float
    loss: float
    loss_name: str
    r2: Measurement
    r2_twin: float
    rows: tuple[tuple[int, float, float], ...]  # families tied, factor, loss

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [{"families": n, "factor": factor, "loss": loss} for n, factor, loss in self.rows]
        return {"target": self.target, "source": self.source, "factor": self.factor, "tied": self.tied,
                "loss": self.loss, "loss_name": self.loss_name, "r2": self.r2.to_json(),
                "r2_twin": None if math.isnan(self.r2_twin) else self.r2_twin, "rows": rows}  # fmt: skip


def compression(
    network: Network,
    targets: Families,
    sources: Families | None,
    *,
    most_loss: float = 0.05,
    stimuli: StimulusSet | None = None,
    pictures: int = 16,
    draws: int = 200,
    seed: int = 0,
) -> Compression:
    """Parameters of the convolution into ``targets`` over those of its quotient by the families of both sides.

    ``sources`` None means a convolution of the picture itself, whose colours a rotation leaves alone. Families of
    targets are tied one after the other, the best fitting first, while :func:`behaviour_loss` stays at most
    ``most_loss``; the factor is that of the last step that did. Behaviour is measured on natural pictures.
    """
    weight = convolution_into(network, targets.site)[1].weight.detach()
    read = weight.shape[1]
    if sources is not None and network.site(sources.site).width != read:
        raise BadInput(f"{targets.site} reads {read} channels; families of another site, {sources.site}, were given.")
    of_targets = Poses.of(targets, weight.shape[0])
    of_sources = Poses.invariant(read) if sources is None else Poses.of(sources, read)
    shown = _pictures(network, stimuli, pictures, seed)
    before = _outputs(network, shown)
    rows: list[tuple[int, float, float]] = []
    best = Symmetrised(weight, float("nan"), 0.0, 1.0)
    best_loss = 0.0
    order = _by_fit(weight, of_targets, of_sources, targets.group)
    for count in range(1, len(order) + 1):
        made = symmetrised(weight, _only(of_targets, order[:count]), of_sources, targets.group)
        loss, _ = behaviour_loss(
            network, before, _outputs(with_kernels(network, targets.site, made.weight, "symmetrised"), shown)
        )
        rows.append((count, made.compression, loss))
        if loss <= most_loss and made.compression > best.compression:
            best, best_loss = made, loss
    _, loss_name = behaviour_loss(network, before, before)
    tied = bool(of_targets.cycle or (sources is not None and sources.families))
    r2, r2_twin = Measurement(float("nan")), float("nan")  # nothing to confirm
    if tied:
        r2 = confirm(weight, of_targets, of_sources, targets.group, draws=draws, seed=seed)
        untrained = convolution_into(untrained_twin(network, seed=seed), targets.site)[1].weight.detach()
        r2_twin = symmetrised(untrained, of_targets, of_sources, targets.group).r2
    source = "input" if sources is None else sources.site
    return Compression(
        targets.site, source, best.compression, best.tied, best_loss, loss_name, r2, r2_twin, tuple(rows)
    )  # fmt: skip


def _by_fit(weight: Tensor, targets: Poses, sources: Poses, chosen: Group) -> list[int]:
    fits = [symmetrised(weight, _only(targets, [family]), sources, chosen).r2 for family in range(len(targets.cycle))]
    return [int(index) for index in np.argsort(-np.nan_to_num(np.array(fits), nan=-1.0), kind="stable")]


def _only(poses: Poses, families: Sequence[int]) -> Poses:
    """The same poses with all families but these dissolved, and no unit called invariant."""
    kept = {family: index for index, family in enumerate(families)}
    member = tuple(kept.get(m, -2) for m in poses.member)
    return Poses(member, poses.steps, tuple(poses.cycle[family] for family in families))


def _pictures(network: Network, stimuli: StimulusSet | None, count: int, seed: int) -> list[Batch]:
    """Natural pictures as the network takes them; 64 pixels a side where nothing says how."""
    chosen = (stimuli if stimuli is not None else builtin_photographs()).take(count, seed=seed)
    if network.preprocess is not None:
        return [network.prepare(group) for group in chosen.batches(8)]
    pixels = (torch.stack([natural_pixels(s.load(), 64) for s in group]) for group in chosen.batches(8))
    return [network.prepare_rgb(part) for part in pixels]


def _outputs(network: Network, batches: Sequence[Batch]) -> Tensor:
    return torch.cat([network.run(batch).logits.float() for batch in batches])


def behaviour_loss(network: Network, before: Tensor, after: Tensor) -> tuple[float, str]:
    """How much behaviour changed, 0 (nothing) to 1, and what that number is.

    Edge detectors: mean absolute difference of edge probabilities over that of a map and another picture's.
    Classifiers: share of pictures whose first class changed. Others: squared change over the output's variance.
    """
    if network.task == "edges":
        one, two = before.sigmoid(), after.sigmoid()
        apart = (one - one.roll(1, 0)).abs().mean()
        return float((one - two).abs().mean() / apart.clamp_min(1e-12)), "change of the edge map / another picture's"
    if network.task == "classifier":
        return float((before.argmax(-1) != after.argmax(-1)).float().mean()), "share of top-1 answers changed"
    spread = (before - before.mean(0)).square().mean().clamp_min(1e-12)
    return float((before - after).square().mean() / spread), "squared change of the output / its variance"
