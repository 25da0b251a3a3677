"""Labels for the units of early vision, by rules over their answers to synthetic drawings.

Every rule compares the drawings that it is about with its rivals: a unit is a curve detector because curves excite it
more than lines do, not because curves excite it. Its *margin* is 1 - rival / own (natural sigma, negative counts as
none): 0 where the rival does as well, 1 where it does nothing. The label is the rule with the largest margin of those
that hold and whose own drawings excite the unit by more than two natural standard deviations; the margin is reported
as confidence. "unknown" where no rule holds. The rules and what they look at are one table, :data:`RULES`; the families
are those of Olah et al., "An Overview of Early Vision in InceptionV1", Distill 2020, whose published shares are in
:data:`INCEPTIONV1`.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from cutaway.evidence import untrained_twin
from cutaway.features.tuning import Grid, View, circular_variance, natural_scale, respond, view_of, without_window
from cutaway.networks.network import Network
from cutaway.stimuli import StimulusSet
from cutaway.stimuli.drawings import (
    Drawings,
    boundaries,
    bw_versus_colour,
    centre_surround,
    circles,
    colour_contrast,
    colours,
    corners,
    curves,
    frequency_pairs,
    gratings,
    lines,
    textures,
)

LEAST_SIGMA = 2.0
LEAST_MARGIN = 0.1
UNKNOWN = "unknown"

#: Published counts of families by layer: (units in all, {family: units}); percentages of the sheet turned into units.
INCEPTIONV1: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "conv2d0": (64, {"Gabor": 28, "colour contrast": 27}),
    "conv2d1": (64, {"low frequency": 17, "Gabor": 11, "complex Gabor": 9}),
    "conv2d2": (192, {"colour contrast": 40, "line": 33, "curve": 12}),
    "mixed3a": (
        256,
        {"texture": 65, "centre-surround": 30, "high-low frequency": 15, "curve": 11, "BW against colour": 9},
    ),
    "mixed3b": (480, {"centre-surround": 77, "boundary": 36, "curve": 10}),
}

Sigma = Float[np.ndarray, "unit drawing"]
Measure = Callable[["Battery"], Float[np.ndarray, " unit"]]


@dataclass(frozen=True, eq=False)
class Battery:
    """All drawings of the taxonomy and every unit's answers to them, in natural standard deviations."""

    shown: Mapping[str, Drawings]
    sigma: Mapping[str, Sigma]

    def peak(self, kind: str, **wanted: float | int) -> Float[np.ndarray, " unit"]:
        """The strongest answer to drawings of a kind whose columns have these values; 0 at least."""
        mask = np.ones(len(self.shown[kind]), dtype=bool)
        for name, value in wanted.items():
            mask &= np.isclose(self.shown[kind].columns[name], value)
        return np.maximum(self.sigma[kind][:, mask].max(1), 0)

    def selectivity(self, kind: str) -> Float[np.ndarray, " unit"]:
        """1 - circular variance of the tuning curve at the best scale: 0 flat, 1 a single angle."""
        held, _ = Grid.of(self.shown[kind], self.sigma[kind]).at_best_scale()
        return 1 - np.nan_to_num(circular_variance(held), nan=1.0)

    def phase_invariance(self) -> Float[np.ndarray, " unit"]:
        """The weakest over the strongest answer to the phases of the best grating: 0 simple, 1 complex."""
        drawn, sigma = self.shown["gratings"], np.maximum(self.sigma["gratings"], 0)
        best = sigma.argmax(1)
        found = np.zeros(len(sigma))
        for unit, row in enumerate(best):
            same = np.ones(len(drawn), dtype=bool)
            for name, column in drawn.columns.items():
                same &= (column == column[row]) | (name == "phase_deg")
            found[unit] = sigma[unit, same].min() / max(sigma[unit, row], 1e-9)
        return found


def battery_for(size: int) -> dict[str, Drawings]:
    """The drawings of the taxonomy on a canvas of that size: about 1,500."""
    return {
        "curves": curves(
            size, orientations=12, radii_px=(size / 16, size / 8, size / 4), widths_px=(max(2, size / 24),)
        ),
        "lines": lines(size),
        "corners": corners(size, orientations=8, turns_deg=(60, 90)),
        "gratings": gratings(size, orientations=8, periods_px=(3, 4.5, 6.5, 9.5, size / 3, size / 1.5), hues=True),
        "pairs": frequency_pairs(size, orientations=8, ratios=(1, 3, 6)),
        "boundaries": boundaries(size, orientations=8),
        "circles": circles(size),
        "centres": centre_surround(size),
        "fields": colours(size),
        "colour pairs": colour_contrast(size),
        "blobs": bw_versus_colour(size),
        "textures": textures(size),
    }


def observe_battery(
    network: Network, site: str, view: View | None = None, *, stimuli: StimulusSet | None = None, seed: int = 0
) -> Battery:
    """Shows the drawings of the taxonomy to a feature map; ``NotTestable`` for another kind of site.

    ``view`` is that of the trained network where ``network`` is its twin, whose receptive field is hard to measure.
    """
    view = view or view_of(network, site)
    shown = battery_for(view.canvas.size)
    scale = natural_scale(network, site, stimuli, seed=seed)
    # A window would make every unit blind to the phase of a grating.
    views = {kind: without_window(view) if kind == "gratings" else view for kind in shown}
    return Battery(
        shown, {kind: scale.sigma(respond(network, site, drawn, views[kind])) for kind, drawn in shown.items()}
    )


@dataclass(frozen=True)
class Rule:
    """A label: what must excite the unit, what must not do so as well, and what else must hold."""

    label: str
    own: Measure
    rival: Measure
    holds: Callable[["Battery"], np.ndarray] = lambda battery: np.ones(len(next(iter(battery.sigma.values()))), bool)


def _most(*measures: Measure) -> Measure:
    return lambda b: np.max([measure(b) for measure in measures], axis=0)


def _of(kind: str, **wanted: float | int) -> Measure:
    return lambda b: b.peak(kind, **wanted)


_GREY = _most(_of("lines"), _of("curves"), _of("gratings", chroma=0), _of("circles"), _of("textures"))
_CHROMATIC_GRATING = _most(_of("gratings", chroma=1), _of("gratings", chroma=2))
_BORDER = _most(_of("pairs", ratio=3), _of("pairs", ratio=6))


def _median_cue(battery: Battery) -> np.ndarray:
    """The second-lowest answer over the four cues of a boundary: high only if most cues excite the unit."""
    return np.sort([battery.peak("boundaries", cue=cue) for cue in range(4)], axis=0)[1]


RULES: tuple[Rule, ...] = (
    Rule("curve", _of("curves"), _most(_of("lines"), _of("corners")), lambda b: b.selectivity("curves") > 0.4),
    Rule("corner", _of("corners"), _most(_of("lines"), _of("curves"))),
    Rule("line", _of("lines", fill=0), _most(_of("lines", fill=1), _of("curves"), _of("textures")),
         lambda b: b.selectivity("gratings") > 0.3),
    Rule("edge", _of("lines", fill=1), _most(_of("lines", fill=0), _of("textures")),
         lambda b: b.selectivity("lines") > 0.3),
    Rule("Gabor", _of("gratings", chroma=0), _most(_of("textures"), _CHROMATIC_GRATING),
         lambda b: (b.selectivity("gratings") > 0.4) & (b.phase_invariance() < 0.5)),
    Rule("complex Gabor", _of("gratings", chroma=0), _most(_of("textures"), _CHROMATIC_GRATING),
         lambda b: (b.selectivity("gratings") > 0.4) & (b.phase_invariance() >= 0.5)),
    Rule("colour contrast", _most(_of("colour pairs"), _CHROMATIC_GRATING), _most(_of("fields"), _GREY)),
    Rule("colour", _of("fields"), _most(_of("colour pairs"), _GREY)),
    Rule("BW against colour", _of("blobs", saturation=0), _of("blobs", saturation=1),
         lambda b: b.selectivity("gratings") < 0.3),
    Rule("high-low frequency", _BORDER, _most(_of("pairs", ratio=1), _of("lines", fill=1)),
         lambda b: b.selectivity("pairs") > 0.3),
    Rule("boundary", _median_cue, _most(_of("textures"), _of("pairs", ratio=1)),
         lambda b: b.selectivity("boundaries") > 0.2),
    Rule("centre-surround", _most(_of("centres"), _of("circles")), _most(_of("lines"), _of("gratings", chroma=0))),
    Rule("texture", _of("textures"), _most(_of("lines"), _of("curves"))),
)  # fmt: skip


@dataclass(frozen=True)
class UnitLabel:
    """The family of a unit, how sure the rule is (its margin, 0 to 1), and the runner-up ("" without one)."""

    unit: int
    label: str
    confidence: float
    second: str = ""


def label_units(battery: Battery) -> tuple[UnitLabel, ...]:
    """The label of every unit by :data:`RULES`."""
    margins = np.stack([_margin(rule, battery) for rule in RULES], 1)
    labels = []
    for unit, row in enumerate(margins):
        order = [int(index) for index in np.argsort(-row, kind="stable") if row[index] >= LEAST_MARGIN]
        first = RULES[order[0]].label if order else UNKNOWN
        second = RULES[order[1]].label if len(order) > 1 else ""
        labels.append(UnitLabel(unit, first, float(row[order[0]]) if order else 0.0, second))
    return tuple(labels)


def _margin(rule: Rule, battery: Battery) -> Float[np.ndarray, " unit"]:
    own, rival = rule.own(battery), rule.rival(battery)
    margin = 1 - rival / np.maximum(own, 1e-9)
    return np.where((own > LEAST_SIGMA) & rule.holds(battery), margin, -np.inf)


@dataclass(frozen=True)
class Taxonomy:
    """The labels of a site and how many units have each, with the same count in a network that learned nothing."""

    site: str
    labels: tuple[UnitLabel, ...]
    null_counts: Mapping[str, float]  # mean over null networks

    @property
    def counts(self) -> dict[str, int]:
        """Units by label, the most frequent first."""
        return dict(Counter(label.label for label in self.labels).most_common())


def taxonomy(
    network: Network,
    site: str,
    *,
    nulls: int = 1,
    stimuli: StimulusSet | None = None,
    seed: int = 0,
) -> Taxonomy:
    """Labels for every unit of a feature map, and the counts that the same rules give in ``nulls`` untrained twins."""
    view = view_of(network, site)
    labels = label_units(observe_battery(network, site, view, stimuli=stimuli, seed=seed))
    counted: Counter[str] = Counter()
    for number in range(nulls):
        twin = untrained_twin(network, seed=seed + number)
        counted.update(
            label.label for label in label_units(observe_battery(twin, site, view, stimuli=stimuli, seed=seed))
        )
    return Taxonomy(site, labels, {label: count / nulls for label, count in counted.items()})
