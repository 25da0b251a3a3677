"""A circuit's study as JSON and for the terminal."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.circuits.faithfulness import Curve, Study
from cutaway.cli.tasks import Asked
from cutaway.evidence import Measurement, Multiverse

MOST = 12  # edges shown in a terminal


def facts(
    found: Study,
    question: Asked,
    rephrased: dict[str, Measurement] | None,
    every: Multiverse | None,
    *,
    edges: int,
    picture: Path | None,
) -> dict[str, Any]:
    """Scored edges, the circuit, the curve and the tests as JSON values."""
    ranking, held = found.ranking, found.held
    return {
        "task": question.name,
        "templates": question.templates,
        "pairs": {"found": len(found.found.pairs), "held_out": len(held.pairs)},
        "metric": held.metric.name,
        "method": ranking.method,
        "ablation": held.ablation,
        "seed": found.curve.seed,
        "accuracy": _measured(question.accuracy),
        "gap": {"network": float(held.network.mean()), "empty": float(held.empty.mean())},
        "edge_count": found.topology.graph.count,
        "score_unit": ranking.unit,
        "edges": _edges(found, edges),
        "circuit": _circuit(found),
        "curve": _curve(found.curve),
        "absolute_curve": None if found.absolute_curve is None else _curve(found.absolute_curve),
        "signed_curve": None if found.signed_curve is None else _curve(found.signed_curve),
        "random_curves": found.band.tolist(),
        "tests": _tests(found),
        "stability": {
            "resampling": _measured(found.stability),
            "rephrasing": None if rephrased is None else {key: _measured(each) for key, each in rephrased.items()},
        },
        "ablations": {how: _measured(each) for how, each in found.ablations.items()},
        "neurons": _neurons(found),
        "multiverse": None if every is None else _multiverse(every),
        "passes": found.passes,
        "notes": [*question.notes, *found.notes],
        "picture": None if picture is None else str(picture),
    }


def _measured(each: Measurement | None) -> dict[str, Any] | None:
    return None if each is None else each.to_json()


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _edges(found: Study, most: int) -> list[dict[str, Any]]:
    """The strongest edges and all of the circuit's, in the order in which they are taken."""
    ranking, width = found.ranking, found.mask.shape[1]
    low, high = ranking.intervals(found.found.entities)
    listed = []
    for place, flat in enumerate(ranking.order().tolist()):
        row, column = divmod(int(flat), width)
        if place >= most and not found.mask[row, column]:
            continue
        listed.append({
            "source": ranking.graph.sources[row],
            "target": ranking.graph.targets[column].name,
            "score": float(ranking.scores[row, column]),
            "importance": float(ranking.importance[row, column]),
            "exact": bool(ranking.exact[row, column]),
            "low": _number(float(low[row, column])),
            "high": _number(float(high[row, column])),
            "in_circuit": bool(found.mask[row, column]),
        })  # fmt: skip
    return listed


def _circuit(found: Study) -> dict[str, Any]:
    graph, shares = found.topology.graph, found.shares
    return {
        "edges": [[graph.sources[row], graph.targets[column].name] for row, column in np.argwhere(found.mask)],
        "components": list(shares.components),
        "size": shares.edge_count,
        "share_of_edges": shares.edges,
        "share_of_parameters": shares.parameters,
        "share_of_compute": shares.compute,
        "faithfulness": found.faithfulness.to_json(),
        "faithfulness_where_found": found.faithfulness_found,
        "beats_random_percent": found.percentile,
        "method_circuit_size": None if found.ranking.chosen is None else int(found.ranking.chosen.sum()),
    }


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "sizes": list(curve.sizes),
        "edges": list(curve.edges),
        "faithfulness": [each.to_json() for each in curve.intervals()],
        "cpr": curve.cpr.to_json(),
        "cmd": curve.cmd.to_json(),
        "k90": curve.k90.to_json(),
    }


def _tests(found: Study) -> dict[str, Any]:
    same, minimal, complete = found.equivalence, found.minimality, found.completeness
    graph = found.topology.graph
    return {
        "equivalence": {
            "holds": same.holds, "share_above": same.share.to_json(), "share_p": same.share_p, "margin": same.margin,
            "mean_difference": same.mean.to_json(), "mean_p": same.mean_p, "mean_margin": same.mean_margin,
            "pairs_needed": same.needed,
        },
        "independence": found.independence.to_json(),
        "completeness": {"worst": complete.worst, "subsets": complete.subsets, "without_circuit": complete.rest},
        "minimality": None if minimal is None else {
            "share": _number(minimal.share), "tested": len(minimal.edges), "all_tested": minimal.tested_all,
            "nulls": len(minimal.null),
            "edges": [
                {"source": graph.sources[row], "target": graph.targets[column].name, "change": float(change),
                 "p_holm": float(p)}
                for (row, column), change, p in zip(minimal.edges, minimal.change, minimal.p)
            ],
        },
    }  # fmt: skip


def _neurons(found: Study) -> dict[str, Any] | None:
    own = found.neurons
    if own is None:
        return None
    return {
        "nodes": len(own.nodes), "sizes": list(own.sizes), "counts": list(own.counts),
        "faithfulness": list(own.faithfulness), "empty": own.empty, "cpr": own.cpr, "cmd": own.cmd,
        "k90": _number(own.k90), "strongest": [{"node": name, "score": score} for name, score in own.strongest()],
    }  # fmt: skip


def _multiverse(every: Multiverse) -> dict[str, Any]:
    return {
        "specifications": len(every.results), "failed": len(every.failed), "median": _number(every.median),
        "range": [_number(each) for each in every.range], "sign_agreement": every.sign_agreement,
        "share_significant": every.share_significant,
        "spread": {axis: _number(value) for axis, value in every.spread.items()},
        "results": [
            {**{axis: result.specification[axis] for axis in result.specification},
             "faithfulness": _measured(result.measurement), "reason": result.reason}
            for result in every.results
        ],
    }  # fmt: skip


# -- for the terminal ----------------------------------------------------------------------------------------------


def view(
    network: Any, found: Study, question: Asked, rephrased: dict[str, Measurement] | None, every: Multiverse | None
) -> RenderableType:
    """Head lines, the strongest edges, the curve, the tests."""
    parts: list[RenderableType] = [*_head(network, found, question), Text(""), _edge_table(found), Text("")]
    parts += [_curve_table(found), Text(""), *map(Text, _lines(found, rephrased, every))]
    parts += [Text(f"- {note}") for note in (*question.notes, *found.notes)]
    return Group(*parts)


def _head(network: Any, found: Study, question: Asked) -> list[Text]:
    shares = found.shares
    able = "" if question.accuracy is None else f"; the network does {question.accuracy.value:.0%} of them"
    return [
        Text(
            f"{network.name}, {question.name}: {len(found.found.pairs)} pairs to find on, {len(found.held.pairs)} held "
            f"out{able}. {found.held.metric.name}, {found.held.ablation} ablation, method {found.ranking.method}."
        ),
        Text(
            f"Circuit: {shares.edge_count} of {found.topology.graph.count} edges ({shares.edges:.2%}), "
            f"{len(shares.components)} components, {shares.parameters:.1%} of block parameters, {shares.compute:.1%} "
            f"of compute. Faithfulness held out {_short(found.faithfulness)}, above {found.percentile:.0f} % of random "
            f"circuits (mean {found.faithfulness.null_mean:.2f}, p = {found.faithfulness.p:.2g})."
        ),
    ]


def _short(each: Measurement) -> str:
    return f"{each.value:.2f} [{each.low:.2f}, {each.high:.2f}]" if math.isfinite(each.low) else f"{each.value:.2f}"


def _edge_table(found: Study) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("edge", "score", "95 %", "measured"):
        table.add_column(name, justify="left" if name == "edge" else "right")
    for row in [each for each in _edges(found, 0) if each["in_circuit"]][:MOST]:
        between = "" if row["low"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}"
        exact = "yes" if row["exact"] else "no"
        table.add_row(f"{row['source']} -> {row['target']}", f"{row['score']:+.3f}", between, exact)
    if found.shares.edge_count > MOST:
        table.add_row(f"... and {found.shares.edge_count - MOST} more (--json)", "", "", "")
    return table


def _curve_table(found: Study) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("share of edges", "edges", "faithfulness", "signed order", "random", "neurons, same share"):
        table.add_column(name, justify="right")
    signed = found.signed_curve
    for i, (size, count, own) in enumerate(zip(found.curve.sizes, found.curve.edges, found.curve.intervals())):
        table.add_row(
            f"{size:.1%}", str(count), _short(own), "" if signed is None else f"{signed.faithfulness[i]:.2f}",
            f"{found.band[:, i].mean():.2f}" if len(found.band) else "",
            "" if found.neurons is None else f"{found.neurons.faithfulness[i]:.2f}",
        )  # fmt: skip
    return table


def _lines(found: Study, rephrased: dict[str, Measurement] | None, every: Multiverse | None) -> list[str]:
    same, complete = found.equivalence, found.completeness
    lines = [
        f"CPR {_short(found.curve.cpr)}, CMD {_short(found.curve.cmd)}, "
        f"k90 on this grid {found.curve.k90.value:.2%} of edges"
    ]
    for name, other in (("|mean|", found.absolute_curve), ("signed", found.signed_curve)):
        if other is not None:
            lines[0] += f"; {name} order: CPR {other.cpr.value:.2f}, CMD {other.cmd.value:.2f}"
    if found.neurons is not None:
        lines.append(f"Neurons and heads: CPR {found.neurons.cpr:.2f}, CMD {found.neurons.cmd:.2f}")
    lines.append(
        f"Equivalent to the network: {'yes' if same.holds else 'not shown'} (above it on {same.share.value:.0%} of "
        f"pairs, p = {same.share_p:.2g}; mean difference {same.mean.value:+.2f} of the gap, p = {same.mean_p:.2g}; "
        f"{same.needed} pairs or more could show it)"
    )
    lines.append(
        f"Without the circuit: faithfulness {complete.rest:.2f}, dependence on the network's answer p = "
        f"{found.independence.p:.2g}; completeness error at least {complete.worst:.2f}"
    )
    if found.minimality is not None:
        least = found.minimality
        lines.append(
            f"Minimal: {least.share:.0%} of {len(least.edges)} tested edges matter more than random ones (Holm)"
        )
    table = ", ".join(
        f"{how} {_short(each)}" if each is not None else f"{how} not testable" for how, each in found.ablations.items()
    )
    lines.append(f"Ablations: {table}")
    if found.stability is not None:
        null = found.stability.null_mean
        lines.append(f"Redrawn pairs: Jaccard {found.stability.value:.2f} (random circuits {null:.2f})")
    if rephrased is not None:
        lines.append(
            f"Other wording: Jaccard {rephrased['jaccard'].value:.2f} (random {rephrased['jaccard'].null_mean:.2f}), "
            f"faithfulness of this circuit {_short(rephrased['faithfulness'])}"
        )
    if every is not None:
        lines.append(f"Multiverse: {every}")
    passes = ", ".join(f"{what} {count:.0f}" for what, count in found.passes.items())
    lines.append(f"Forward passes over the pairs: {passes}")
    return lines
