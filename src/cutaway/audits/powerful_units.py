"""Which single units change the network's answers most when they are taken out?

1. Screen: for every unit of the examined sites, the second-order estimate of the divergence that setting it to its mean
   would cause: E[(sum_pos g (mean - a))^2] / 2, g the gradient of a log-likelihood sampled from the network's own
   prediction (the Fisher form of optimal brain damage; LeCun et al. 1990). One backward pass covers all units.
2. Measure: ablate the top units, one at a time, on stimuli that the screening has not seen, and as many random units of
   the same sites; then again under other ablations, halves of the stimuli, and statistics (the multiverse).
3. Report: units stronger than nine in ten random ones, where the screened units stand out together (permutation test on
   a log scale); else units beyond the random units' prediction interval; how good the screening was.
"""

import time
from dataclasses import replace

import numpy as np
from torch import Tensor

from cutaway.audits.effects import economical, unit_of_change
from cutaway.audits.findings import Control, Finding, NotFound, RuleResult, Severity, Table
from cutaway.audits.rules import AuditContext
from cutaway.audits.unit_effects import Effects, ablate_each, beyond_random, choose, examined_sites, screen
from cutaway.errors import BadInput
from cutaway.evidence import (
    Evidence,
    Measurement,
    Test,
    benjamini_hochberg,
    grade,
    mean_interval,
    measure_difference,
    measure_spearman,
    permutation_p,
    run_multiverse,
    specifications,
    untrained_twin,
)
from cutaway.networks.network import Batch, Network
from cutaway.registry import RULES

ABLATIONS = ("mean", "zero", "resample")
SHARE_BEATEN = 0.9  # of the random units, for a unit to be listed
BATCH = 8
WORDS = 16  # a text stimulus is cut to so many words: enough context, bounded cost


class PowerfulUnits:
    """The rule; see the module's text."""

    id = "powerful-units"
    version = "1"
    question = "Which single units change the network's answers most when they are ablated?"

    def applicable(self, network: Network) -> str | None:
        """Not testable without units after a nonlinearity, or without stimuli."""
        if not examined_sites(network, 1):
            return "The network has no site after a nonlinearity whose units could be ablated."
        return None

    def check(self, context: AuditContext) -> RuleResult:
        """Screen, measure, compare with random units."""
        started = time.monotonic()
        context = replace(context, network=economical(context.network, context.profile))
        network, profile = context.network, context.profile
        screening, testing = stimulus_halves(context)
        sites = examined_sites(network, profile.sites * 5)
        context.progress(0, 3, "screening all units")
        scores = screen(network, screening, sites, seed=context.seed)
        top, random_units = choose(scores, profile.units, profile.random_units, context.seed)
        context.progress(1, 3, f"ablating {len(top)} strong and {len(random_units)} random units")
        measured = {"mean": ablate_each(network, testing, [*top, *random_units], "mean", context.seed)}
        few = [*top[:8], *random_units[:8]]
        for kind in ("zero", "resample"):
            context.progress(2, 3, f"the same under ablation to {kind}")
            measured[kind] = ablate_each(network, testing, few, kind, context.seed)
        twin = _twin_ratio(context, screening, testing, sites) if profile.twin_seeds else None
        result = _result(context, scores, measured, len(top), twin)
        return replace(result, examined=tuple(sites), seconds=time.monotonic() - started)


def stimulus_halves(context: AuditContext) -> tuple[list[Batch], list[Batch]]:
    """Batches for screening and, from other stimuli, for measuring."""
    if context.stimuli is None or len(context.stimuli) < 4:
        raise BadInput("This rule screens on some stimuli and measures on others; give at least four.")
    quick = context.profile.name == "quick"
    most_screening, most_testing = (12, 6) if quick else (64, 48)
    first, second = context.stimuli.split(0.6, seed=context.seed)
    chosen = [
        s.take(min(most, len(s)), seed=context.seed) for s, most in ((first, most_screening), (second, most_testing))
    ]
    return _batches(context.network, chosen[0]), _batches(context.network, chosen[1])


def _batches(network: Network, stimuli: object) -> list[Batch]:
    made = []
    for group in stimuli.batches(BATCH):  # type: ignore[attr-defined]
        if network.modality == "text":
            made.append(network.prepare([" ".join(s.load().split()[:WORDS]) for s in group], [s.id for s in group]))
        else:
            made.append(network.prepare(group))
    return made


def _twin_ratio(context: AuditContext, screening: list[Batch], testing: list[Batch], sites: list[str]) -> Measurement:
    """The same ratio (strong units over random ones) in an untrained twin: large units come with training."""
    network = untrained_twin(context.network, seed=context.seed)
    scores = screen(network, screening[:1], sites, seed=context.seed, draws=1)
    top, random_units = choose(scores, 4, 4, context.seed)
    effects = ablate_each(network, testing[:1], [*top, *random_units], "mean", context.seed)
    means = effects.means()
    return Measurement(_ratio(means[: len(top)], means[len(top) :]), n=len(top), seed=context.seed)


def _ratio(top: np.ndarray, random_units: np.ndarray) -> float:
    return float(np.median(top) / max(float(np.median(random_units)), 1e-12))


def _result(
    context: AuditContext,
    scores: dict[str, Tensor],
    measured: dict[str, Effects],
    count: int,
    twin: Measurement | None,
) -> RuleResult:
    effects = measured["mean"]
    means = effects.means()
    random_means = means[count:]
    q = benjamini_hochberg(beyond_random(means[:count], random_means))
    order = np.argsort(-means[:count])
    together = _together(means[:count], random_means, context.seed)
    strong = _strong(order, means, random_means, q, together)
    table = _table(context, effects, order, q, random_means)
    screening = _screening_quality(scores, effects, context.seed)
    reproduce = f"{context.command} --rules powerful-units".strip()
    if not strong:
        claim = f"No unit among the {count} best-screened changes the output more than random units of its site do."
        numbers = (("strong minus random units, decades of change", together),)
        absent = NotFound("powerful-units", PowerfulUnits.question, claim, numbers, (table,), reproduce)
        return RuleResult("powerful-units", PowerfulUnits.question, not_found=(absent,))
    corrected = min(1.0, 2 * min(together.p, float(q.min())))  # two ways to stand out: Bonferroni
    finding = _finding(context, measured, count, strong, together, corrected, screening, twin, table, reproduce)
    cards = tuple(str(effects.addresses[index]) for index in strong[: context.profile.cards])
    units = tuple((str(effects.addresses[index]), finding.verdict) for index in strong)
    return RuleResult("powerful-units", PowerfulUnits.question, (finding,), cards=cards, units=units)


def _together(strong: np.ndarray, random_means: np.ndarray, seed: int) -> Measurement:
    """How many decades stronger the screened units are than random ones: difference of mean log10 changes."""
    first, second = (np.log10(np.maximum(values, 1e-12)) for values in (strong, random_means))
    return measure_difference(first, second, alternative="greater", seed=seed)


def _strong(
    order: np.ndarray, means: np.ndarray, random_means: np.ndarray, q: np.ndarray, together: Measurement
) -> list[int]:
    """Units stronger than nine in ten random ones where the screened units stand out together (p <= 0.025); else those
    that stand out alone.
    """
    line = float(np.quantile(random_means, SHARE_BEATEN))
    alone = (q <= 0.025) & (means[: len(q)] > random_means.max())
    wanted = means[: len(q)] > line if together.p <= 0.025 else alone
    return [int(index) for index in order if wanted[index]]


def _table(
    context: AuditContext, effects: Effects, order: np.ndarray, q: np.ndarray, random_means: np.ndarray
) -> Table:
    rows = []
    for index in order:
        amounts = effects.amount[index]
        low, high = mean_interval(amounts, seed=context.seed)
        measurement = Measurement(
            float(amounts.mean()), low, high, float(random_means.mean()), float(random_means.std()),
            permutation_p(float(amounts.mean()), random_means, alternative="greater"), len(amounts), context.seed,
        )  # fmt: skip
        flips = float(effects.flipped[index].mean())
        rows.append((str(effects.addresses[index]), measurement, float(q[index]), flips))
    unit = unit_of_change(context.network)
    return Table(
        "Ablating one unit at a time to its mean",
        ("unit", f"change ({unit})", "q", "share of decisions changed"),
        tuple(rows),
        "Null: the same ablation of random units of the same sites; these stimuli were not used for screening. "
        "q: log-scale prediction interval of the random units, Benjamini-Hochberg over the units ablated.",
    )


def _screening_quality(scores: dict[str, Tensor], effects: Effects, seed: int) -> Measurement | None:
    estimates = np.array([float(scores[a.site][a.unit]) for a in effects.addresses])
    if len(set(estimates)) < 3:
        return None
    return measure_spearman(estimates, effects.means(), alternative="greater", seed=seed)


def _multiverse(measured: dict[str, Effects], count: int, seed: int):
    """Strong minus random units under 24 specifications: 3 ablations, 2 halves of the stimuli, 2 statistics, 2 sets."""
    specs = specifications(
        ablation=ABLATIONS,
        half=("first", "second"),
        statistic=("change", "log change"),
        random_half=("first", "second"),
    )

    def question(spec: object) -> Measurement:
        effects = measured[spec["ablation"]]  # type: ignore[index]
        tops = sum(address in measured["mean"].addresses[:count] for address in effects.addresses)
        amount = effects.amount[:, _half(effects.amount.shape[1], spec["half"])].mean(1)  # type: ignore[index]
        if spec["statistic"] == "log change":  # type: ignore[index]
            amount = np.log10(np.maximum(amount, 1e-12))
        others = amount[tops:][_half(len(amount) - tops, spec["random_half"])]  # type: ignore[index]
        return measure_difference(amount[:tops], others, alternative="greater", shuffles=199, seed=seed)

    return run_multiverse(question, specs)


def _half(count: int, which: object) -> slice:
    return slice(0, count // 2) if which == "first" else slice(count // 2, count)


def _finding(
    context: AuditContext,
    measured: dict[str, Effects],
    count: int,
    strong: list[int],
    together: Measurement,
    corrected: float,
    screening: Measurement | None,
    twin: Measurement | None,
    table: Table,
    reproduce: str,
) -> Finding:
    effects = measured["mean"]
    means = effects.means()
    best = strong[0]
    multiverse = _multiverse(measured, count, context.seed)
    # Specificity stays unmeasured, and the verdict below causal: the claim is about all of the output, which leaves no
    # unrelated behaviour to compare with.
    graded = grade(
        Evidence(
            intervention=[Test("random-units", together, corrected)],
            multiverse=multiverse,
            waived={
                "random-directions": "a unit is its own direction; random units of its site are the null",
                "optimised-elsewhere": "the claim compares units with each other, not a unit with an optimised edit",
            },
        )
    )
    flips = float(effects.flipped[best].mean())
    ratio = _ratio(means[strong], means[count:])
    claim = _claim(str(effects.addresses[best]), means[best], means[strong[-1]], means[count:], len(strong), flips)
    return Finding(
        rule="powerful-units",
        claim=claim,
        verdict=graded.verdict,
        severity=_severity(flips),
        location=tuple(str(effects.addresses[index]) for index in strong[:10]),
        effect=together,
        effect_name="how much stronger the screened units are than random ones, decades (3 = a thousand times)",
        controls=_controls(multiverse, screening, twin, ratio),
        limits=(
            "Untrained networks have strong and weak units, too; the control against the twin says what training adds.",
            "One unit at a time: units that stand in for each other look weak here.",
            "The screening is a second-order estimate; a unit that it ranks low was not ablated.",
            *graded.missing,
            *graded.notes,
        ),
        tables=(table,),
        reproduce=reproduce,
    )


def _claim(leader: str, value: float, weakest: float, random_means: np.ndarray, count: int, flips: float) -> str:
    beaten = "any" if weakest > random_means.max() else "nine in ten"
    share = "" if np.isnan(flips) else f" and changes {flips:.1%} of the decisions"
    return (
        f"{count} single units change the output more than {beaten} of {len(random_means)} random units of the same "
        "sites; "
        f"ablating {leader} alone moves it {_times(value, random_means)} times as far as the median random unit{share}."
    )


def _times(value: float, random_means: np.ndarray) -> str:
    return f"{value / max(float(np.median(random_means)), 1e-12):.3g}"


def _severity(flips: float) -> Severity:
    """By the share of decisions that hang on one unit: 20 % is a single point of failure, 5 % worth a look."""
    if np.isnan(flips) or flips < 0.05:
        return Severity.NOTE
    return Severity.MEDIUM if flips >= 0.2 else Severity.LOW


def _controls(
    multiverse: object, screening: Measurement | None, twin: Measurement | None, ratio: float
) -> tuple[Control, ...]:
    agreement = multiverse.sign_agreement  # type: ignore[attr-defined]
    controls = [
        Control(
            f"multiverse: sign agreement over {len(multiverse.results)} specifications",  # type: ignore[attr-defined]
            Measurement(agreement, n=len(multiverse.results)),  # type: ignore[attr-defined]
            agreement >= 0.8,
            "The order would depend on how units are ablated, on which stimuli, or on the statistic.",
        )
    ]
    if screening is not None:
        controls.append(
            Control(
                "screening score against measured change (Spearman)",
                screening,
                screening.p <= 0.05,
                "The screening would not see strength, and strong units could have been missed.",
            )
        )
    if twin is not None:
        controls.append(
            Control(
                f"strong over random in the untrained twin (here {ratio:.3g})",
                twin,
                twin.value < ratio,
                "Strength would come with the architecture, not with training.",
            )
        )
    return tuple(controls)


RULES.register("powerful-units")(PowerfulUnits())
