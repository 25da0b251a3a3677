"""What carries the edge decision of a holistically-nested edge detector? An exact split over channels, then a test.

The split itself is in :mod:`cutaway.audits.edge_split`.

Channels are ranked on one half of the images; every number reported comes from the other half. Null: the edge masks of
other images, which have the same statistics and belong to nothing here.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from cutaway.audits.edge_split import Split, decision_split
from cutaway.audits.effects import change, economical, unit_of_change
from cutaway.audits.findings import Control, Figure, Finding, RuleResult, Severity, Table
from cutaway.audits.rules import AuditContext
from cutaway.errors import BadInput
from cutaway.evidence import (
    Evidence,
    Measurement,
    Test,
    benjamini_hochberg,
    grade,
    mean_interval,
    measure_against_null,
    permutation_p_units,
    random_sets,
    run_multiverse,
    specifications,
)
from cutaway.features.edges import readout_sites
from cutaway.networks.edits import Ablate
from cutaway.networks.network import Batch, Network
from cutaway.networks.sites import Address
from cutaway.registry import RULES

TOP = 10
RANDOM_SETS = 20  # the least number whose permutation p can be below 0.05
TOLERANCE = 1e-4  # relative gap up to which the split counts as exact in float32


class EdgeDecision:
    """The rule; see the module's text."""

    id = "edge-decision"
    version = "1"
    question = "Which channels carry the decision that a pixel is an edge?"

    def applicable(self, network: Network) -> str | None:
        """Testable where side outputs are 1x1 readouts and the fusion is linear."""
        if network.family != "hed":
            return (
                "The network is no edge detector with linear 1x1 side readouts, so its decision does not split exactly."
            )
        return None

    def check(self, context: AuditContext) -> RuleResult:
        """Split, rank, test by ablation."""
        started = time.monotonic()
        context = replace(context, network=economical(context.network, context.profile))
        network = context.network
        context.progress(0, 2, "splitting the edge logit over channels")
        ranking, testing = _halves(context)
        top = _ranked(decision_split(network, *ranking))[:TOP]
        held_out = decision_split(network, *testing)
        if len(held_out.decision) < 3:
            raise BadInput("Fewer than three test images show edges, too few to measure; give more or other images.")
        context.progress(1, 2, "ablating the ten channels and random sets")
        tests = _ablations(context, testing[0][: _test_batches(context)], [held_out.addresses[i] for i in top])
        result = _result(context, held_out, top, tests)
        sites = tuple(readout_sites(network))
        return replace(result, examined=sites, seconds=time.monotonic() - started)


def _halves(context: AuditContext) -> list[tuple[list[Batch], list[str]]]:
    """Batches to rank on and, from other pictures, to test on, each with the picture that every crop comes from."""
    if context.stimuli is None or len(context.stimuli) < 6:
        raise BadInput("This rule ranks on one half of the images and tests on the other; give at least six images.")
    chosen = context.stimuli.take(min(context.profile.stimuli, len(context.stimuli)), seed=context.seed)
    made = []
    for half in chosen.split(0.5, seed=context.seed):
        loaded = list(half.batches(4))
        names = [stimulus.group or stimulus.id for group in loaded for stimulus in group]
        made.append(([context.network.prepare(group) for group in loaded], names))
    return made


def _ranked(split: Split) -> np.ndarray:
    """Channels by how much of the decision they carry, either sign, the strongest first."""
    return np.argsort(-np.abs(split.shares.mean(0)), kind="stable")


@dataclass(frozen=True)
class Ablations:
    """Change per image under ablation of the ten channels and of random sets, {ablation: ([image], [set image])}."""

    changes: dict[str, tuple[np.ndarray, np.ndarray]]


def _test_batches(context: AuditContext) -> int:
    """How many batches of four held-out images the ablations use."""
    return 2 if context.profile.name == "quick" else 6


def _ablations(context: AuditContext, batches: list[Batch], chosen: list[Address]) -> Ablations:
    network = context.network
    pool = [Address(site, unit) for site in readout_sites(network) for unit in range(network.site(site).width or 0)]
    count = max(RANDOM_SETS, context.profile.random_units)
    sets = random_sets(chosen, pool, count, stratum=lambda address: address.site, seed=context.seed)
    originals = [network.run(batch).logits for batch in batches]
    changes = {}
    for kind in ("mean", "zero", "resample"):
        groups = [tuple(chosen), *(sets if kind == "mean" else sets[: RANDOM_SETS // 2])]
        rows = []
        for group in groups:
            edits = [
                Ablate(site, [a.unit for a in group if a.site == site], to=kind, seed=context.seed)
                for site in dict.fromkeys(a.site for a in group)
            ]
            after = [network.run(batch, edits=edits).logits for batch in batches]
            pairs = zip(originals, after, batches)
            rows.append(torch.cat([change(network, old, new, batch).amount for old, new, batch in pairs]).cpu().numpy())
        changes[kind] = (rows[0], np.stack(rows[1:]))
    return Ablations(changes)


def _derangements(split: Split, draws: int, seed: int) -> np.ndarray:
    """Mean shares when every image gets another image's mask, [draw channel]."""
    rng = np.random.default_rng(seed)
    images = np.arange(len(split.decision))
    null = []
    for _ in range(draws):
        order = rng.permutation(images)
        masks = np.empty_like(order)
        masks[order] = np.roll(order, 1)
        null.append(split.null[images, masks].mean(0))
    return np.stack(null)


def _result(context: AuditContext, split: Split, top: np.ndarray, tests: Ablations) -> RuleResult:
    null = _derangements(split, context.profile.permutations, context.seed)
    observed = split.shares.mean(0)
    q = benjamini_hochberg(permutation_p_units(observed, null))
    total = float(split.decision.mean())
    effect = measure_against_null(
        float(observed[top].sum() / total),
        null[:, top].sum(1) / total,
        bootstrap=_bootstrap_ratio(split, top, context.seed),
        n=len(set(split.pictures)),
        seed=context.seed,
    )
    table = _table(context, split, top, observed, null, q)
    finding = _finding(context, split, top, effect, tests, table, q)
    addresses = tuple(str(split.addresses[index]) for index in top)
    return RuleResult(
        rule="edge-decision",
        question=EdgeDecision.question,
        findings=(finding,),
        cards=addresses[: context.profile.cards],
        figures=(_figure(split, observed, top),),
        units=tuple((address, finding.verdict) for address, index in zip(addresses, top) if q[index] <= 0.05),
    )


def _bootstrap_ratio(split: Split, top: np.ndarray, seed: int) -> np.ndarray:
    """The share on resampled pictures: crops of one picture stay together."""
    pictures = np.unique(split.pictures, return_inverse=True)[1]
    parts = np.bincount(pictures, split.shares[:, top].sum(1))
    totals = np.bincount(pictures, split.decision)
    rows = np.random.default_rng(seed).integers(0, len(totals), (999, len(totals)))
    return parts[rows].sum(1) / totals[rows].sum(1)


def _table(
    context: AuditContext, split: Split, top: np.ndarray, observed: np.ndarray, null: np.ndarray, q: np.ndarray
) -> Table:
    rows = []
    total = float(split.decision.mean())
    for index in top:
        low, high = mean_interval(split.shares[:, index], split.pictures, seed=context.seed)
        measurement = Measurement(
            float(observed[index]), low, high, float(null[:, index].mean()), float(null[:, index].std()),
            float(permutation_p_units(observed[[index]], null[:, [index]])[0]), len(set(split.pictures)), context.seed,
        )  # fmt: skip
        rows.append((str(split.addresses[index]), measurement, float(observed[index] / total), float(q[index])))
    return Table(
        "The ten channels that carry most of the edge decision",
        ("channel", "part of the decision (logits)", "share", "q (Benjamini-Hochberg over all channels)"),
        tuple(rows),
        "Ranked on other images than those measured. A negative part speaks against the edge that is there. "
        "Null: the edge masks of other images.",
    )


def _multiverse(tests: Ablations, seed: int):
    specs = specifications(
        ablation=tuple(tests.changes), images=("first half", "second half"), statistic=("change", "log change"),
        random_sets=("first half", "second half"),
    )  # fmt: skip

    def question(spec: object) -> Measurement:
        mine, others = tests.changes[spec["ablation"]]  # type: ignore[index]
        rows = _half(len(mine), spec["images"])  # type: ignore[index]
        random = others[_half(len(others), spec["random_sets"])][:, rows].mean(1)  # type: ignore[index]
        value = mine[rows].mean()
        if spec["statistic"] == "log change":  # type: ignore[index]
            value, random = np.log10(max(value, 1e-12)), np.log10(np.maximum(random, 1e-12))
        return measure_against_null(
            float(value - random.mean()), random - random.mean(), n=len(mine[rows]), alternative="greater", seed=seed
        )

    return run_multiverse(question, specs)


def _half(count: int, which: object) -> slice:
    return slice(0, count // 2) if which == "first half" else slice(count // 2, count)


def _finding(
    context: AuditContext,
    split: Split,
    top: np.ndarray,
    effect: Measurement,
    tests: Ablations,
    table: Table,
    q: np.ndarray,
) -> Finding:
    mine, others = tests.changes["mean"]
    ablation = measure_against_null(
        float(mine.mean()), others.mean(1), n=len(mine), alternative="greater", seed=context.seed
    )
    multiverse = _multiverse(tests, context.seed)
    # Specificity stays unmeasured, and the verdict below causal: an edge detector does nothing but detect edges.
    graded = grade(
        Evidence(
            sign=0,
            association=[Test("other-images-masks", effect, effect.p)],
            intervention=[Test("random-sets", ablation, ablation.p)],
            multiverse=multiverse,
            waived={
                "shuffled-labels": "the masks of other images are the labels of this question",
                "random-directions": "random sets of channels of the same sites are the null",
                "untrained-twin": "the split is exact in any network of this architecture, trained or not",
                "surface": "an image has no token embedding",
                "optimised-elsewhere": "the sets compared are all of ten channels, none optimised",
            },
        )
    )
    times = mine.mean() / max(others.mean(), 1e-12)
    names = ", ".join(str(split.addresses[index]) for index in top[:3])
    claim = (
        f"Ten of {split.shares.shape[1]} channels carry {effect.value:.0%} of the edge decision on images not used to "
        f"choose them ({names} lead); ablating them moves the edge map {times:.3g} times as far as ten random channels "
        "of the same sites."
    )
    return Finding(
        rule="edge-decision",
        claim=claim,
        verdict=graded.verdict,
        severity=Severity.NOTE,
        location=tuple(str(split.addresses[index]) for index in top),
        effect=effect,
        effect_name="share of the edge decision carried by the ten channels (1 = all of it)",
        controls=_controls(context, split, top, ablation, multiverse),
        limits=(
            "The split is of the direct path; a channel also feeds later blocks, which the ablation includes.",
            "An edge is what the network calls an edge (logit > 0), not what a person would draw.",
            *graded.missing,
            *graded.notes,
        ),
        tables=(table,),
        reproduce=f"{context.command} --rules edge-decision".strip(),
    )


def _controls(
    context: AuditContext, split: Split, top: np.ndarray, ablation: Measurement, multiverse: object
) -> tuple[Control, ...]:
    agreement = multiverse.sign_agreement  # type: ignore[attr-defined]
    random_tens = _random_tens(context, split, top)
    return (
        Control(
            "conservation: largest relative gap between the parts' sum and the decision",
            Measurement(split.gap, n=len(split.decision)),
            split.gap <= TOLERANCE,
            "The split would not be exact, and shares would mean nothing.",
        ),
        Control(
            "share of the decision against random tens of the same sites",
            random_tens,
            random_tens.p <= 0.05,
            "Any ten channels would carry as much.",
        ),
        Control(
            f"ablating the ten against random tens ({unit_of_change(context.network)})",
            ablation,
            ablation.p <= 0.05,
            "The channels would carry the decision on paper only.",
        ),
        Control(
            f"multiverse: sign agreement over {len(multiverse.results)} specifications",  # type: ignore[attr-defined]
            Measurement(agreement, n=len(multiverse.results)),  # type: ignore[attr-defined]
            agreement >= 0.8,
            "The answer would depend on how channels are ablated or on which images.",
        ),
    )


def _random_tens(context: AuditContext, split: Split, top: np.ndarray) -> Measurement:
    """The ten's share against shares of random tens from the same sites."""
    chosen = [split.addresses[index] for index in top]
    sets = random_sets(chosen, split.addresses, 999, stratum=lambda a: a.site, seed=context.seed)
    place = {address: index for index, address in enumerate(split.addresses)}
    parts = split.shares.mean(0) / split.decision.mean()
    null = [float(parts[[place[address] for address in group]].sum()) for group in sets]
    return measure_against_null(
        float(parts[top].sum()), null, n=len(split.decision), alternative="greater", seed=context.seed
    )


def _figure(split: Split, observed: np.ndarray, top: np.ndarray) -> Figure:
    """Channels' parts by site, the ten marked."""
    import io

    from matplotlib.figure import Figure as Canvas

    sites = list(dict.fromkeys(address.site for address in split.addresses))
    canvas = Canvas(figsize=(7.2, 3.0), layout="constrained")
    axes = canvas.subplots()
    place = np.array([sites.index(address.site) for address in split.addresses], dtype=float)
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, len(place))
    chosen = np.isin(np.arange(len(place)), top)
    axes.axhline(0, color="#888", linewidth=0.8)
    axes.scatter((place + jitter)[~chosen], observed[~chosen], s=6, color="#9aa5b1", label="other channels")
    axes.scatter((place + jitter)[chosen], observed[chosen], s=28, color="#c2410c", marker="D", label="the ten")
    axes.set_xticks(range(len(sites)), sites)
    axes.set_ylabel("part of the decision (logits)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    caption = (
        "Each channel's part of the edge decision (mean logit at edge pixels minus elsewhere), by the site whose side "
        "output reads it. Parts add up to the decision exactly; most channels carry almost nothing."
    )
    return Figure(caption, svg=svg[svg.index("<svg") :])


RULES.register("edge-decision")(EdgeDecision())
