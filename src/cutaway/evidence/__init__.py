"""The evidence room: every claim that cutaway makes goes through here.

What enters: numbers measured elsewhere, with the names of the independent entities that they come from.
What leaves: a :class:`Measurement` (value, 95 % interval, null distribution, p, n, seed), and from tests of
one claim a :class:`Grade`: the verdict it earned and why not a higher one. What is promised, and tested by
simulation: under a true null p-values are uniform, intervals cover 95 +- 2 %, Benjamini-Hochberg and Holm
hold their levels. Same seed, same numbers.

    measurement, verdicts, grading      what leaves
    measure, probes, multiverse         data -> Measurement; a linear probe; one question under many
    specifications intervals, permutation, multiple    the statistics nulls, twins
    worlds in which the claim is false
    scores                              AUROC within strata, Cohen's d
    metrics                             the formulas that papers report, a front door of its own

Names load on first use, so that reading a Measurement imports neither torch nor scikit-learn.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cutaway.evidence.grading import CircuitEvidence, Evidence, Grade, Test, Thresholds, grade
    from cutaway.evidence.intervals import (
        Interval,
        auroc_interval,
        bootstrap_interval,
        difference_interval,
        mean_interval,
        proportion_interval,
        spearman_interval,
    )
    from cutaway.evidence.measure import (
        measure_against_null,
        measure_auroc,
        measure_difference,
        measure_mean,
        measure_proportion,
        measure_spearman,
    )
    from cutaway.evidence.measurement import Measurement
    from cutaway.evidence.multiple import benjamini_hochberg, holm
    from cutaway.evidence.multiverse import (
        Multiverse,
        Specification,
        SpecResult,
        run_multiverse,
        specifications,
    )
    from cutaway.evidence.nulls import control_labels, random_directions, random_sets, shuffled_labels
    from cutaway.evidence.permutation import familywise_p, permutation_p, permutation_p_units
    from cutaway.evidence.probes import ProbeResult, probe, probe_direction
    from cutaway.evidence.scores import auroc, cohens_d
    from cutaway.evidence.twins import shuffled_weights, untrained_twin
    from cutaway.evidence.verdicts import Verdict

_HOMES = {
    "grading": ["CircuitEvidence", "Evidence", "Grade", "Test", "Thresholds", "grade"],
    "intervals": [
        "Interval",
        "auroc_interval",
        "bootstrap_interval",
        "difference_interval",
        "mean_interval",
        "proportion_interval",
        "spearman_interval",
    ],
    "measure": [
        "measure_against_null",
        "measure_auroc",
        "measure_difference",
        "measure_mean",
        "measure_proportion",
        "measure_spearman",
    ],
    "measurement": ["Measurement"],
    "multiple": ["benjamini_hochberg", "holm"],
    "multiverse": ["Multiverse", "SpecResult", "Specification", "run_multiverse", "specifications"],
    "nulls": ["control_labels", "random_directions", "random_sets", "shuffled_labels"],
    "permutation": ["familywise_p", "permutation_p", "permutation_p_units"],
    "probes": ["ProbeResult", "probe", "probe_direction"],
    "scores": ["auroc", "cohens_d"],
    "twins": ["shuffled_weights", "untrained_twin"],
    "verdicts": ["Verdict"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "CircuitEvidence",
    "Evidence",
    "Grade",
    "Interval",
    "Measurement",
    "Multiverse",
    "ProbeResult",
    "SpecResult",
    "Specification",
    "Test",
    "Thresholds",
    "Verdict",
    "auroc",
    "auroc_interval",
    "benjamini_hochberg",
    "bootstrap_interval",
    "cohens_d",
    "control_labels",
    "difference_interval",
    "familywise_p",
    "grade",
    "holm",
    "mean_interval",
    "measure_against_null",
    "measure_auroc",
    "measure_difference",
    "measure_mean",
    "measure_proportion",
    "measure_spearman",
    "permutation_p",
    "permutation_p_units",
    "probe",
    "probe_direction",
    "proportion_interval",
    "random_directions",
    "random_sets",
    "run_multiverse",
    "shuffled_labels",
    "shuffled_weights",
    "spearman_interval",
    "specifications",
    "untrained_twin",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
