"""An unfolding as tables: each dictionary beside its rivals, and what features mean before and after."""

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutaway.bases.evaluation import Evaluation, Scores, Stability
from cutaway.bases.unfolding import TaskAccuracy
from cutaway.cli.purity import Purity
from cutaway.evidence.measurement import Measurement


def facts(
    evaluations: Sequence[Evaluation], stable: Stability | None, purity: Purity | None, task: TaskAccuracy | None,
    notes: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Everything as JSON values."""
    return {
        "evaluations": [each.to_json() for each in evaluations],
        "stability": None if stable is None else stable.to_json(),
        "polysemanticity": None if purity is None else purity.to_json(),
        "task": None if task is None else task.to_json(),
        "training_notes": notes,
    }


def view(
    network: Any, evaluations: Sequence[Evaluation], stable: Stability | None, purity: Purity | None,
    task: TaskAccuracy | None, found: dict[str, Any],
) -> RenderableType:  # fmt: skip
    """A head line, one table for each dictionary, then what was asked beside it."""
    parts: list[RenderableType] = []
    for each in evaluations:
        parts += [_head(network, each), *_tables(each), Text("")]
    parts += [] if stable is None else [_stability(stable)]
    parts += [] if purity is None else [_purity(purity)]
    parts += [] if task is None else [Text(f"{task.task}: {task.unfolded} unfolded, {task.original} original.")]
    for name, said in found["training_notes"].items():
        parts += [Text(f"{name}: {note}") for note in said]
    parts += [Text(f"Kept: {', '.join(found['folders'].values())}; {found['picture']}")] if "folders" in found else []
    return Group(*parts)


def _head(network: Any, each: Evaluation) -> Text:
    origin, own = each.origin, each.own.reconstruction
    place = f"{origin.reads} -> {origin.writes}" if origin.replaces else origin.writes
    skipped = f", first {each.skip_first} of each text left out" if each.skip_first else ""
    return Text(
        f"{network.name} {place} as {each.basis}: {own.rows} rows of {each.stimuli[2]} held-out stimuli{skipped}. "
        "Rivals keep as many codes a row."
    )


_Cells = list[tuple[str, Callable[[Scores], Any]]]

_OF_THE_SITE: _Cells = [
    ("explained", lambda s: s.reconstruction.explained_variance),
    ("L0", lambda s: f"{s.reconstruction.l0.value:.1f}"),
    ("dead", lambda s: f"{s.reconstruction.dead:.1%}"),
    ("dense", lambda s: f"{s.reconstruction.dense:.1%}"),
    ("probe k=1", lambda s: s.probing and s.probing.accuracy[0][1]),
    ("absorbed", lambda s: s.probing and s.probing.absorption),
]
_OF_THE_NETWORK: _Cells = [
    ("CE rec. (mean)", lambda s: s.recovered and s.recovered.loss_mean),
    ("CE rec. (zero)", lambda s: s.recovered and s.recovered.loss_zero),
    ("KL", lambda s: s.behaviour and s.behaviour.kl),
    ("KL rec. (mean)", lambda s: s.recovered and s.recovered.kl_mean),
    ("top-1 same", lambda s: s.behaviour and s.behaviour.agreement),
    ("next token", lambda s: s.behaviour and s.behaviour.kind == "causal-lm" and s.behaviour.accuracy),
    ("output kept", lambda s: s.behaviour and s.behaviour.output_kept),
    ("edges kept", lambda s: s.behaviour and s.behaviour.edges_kept),
]


def _columns(evaluation: Evaluation, every: _Cells) -> list[tuple[str, Callable[[Scores], str]]]:
    """The columns that something was measured for."""
    shown = [(name, _cell(value)) for name, value in every]
    return [(name, cell) for name, cell in shown if any(cell(each) for each in evaluation.scores)]


def _cell(value: Callable[[Scores], Any]) -> Callable[[Scores], str]:
    def cell(scores: Scores) -> str:
        found = value(scores)
        return f"{found.value:.3f}" if isinstance(found, Measurement) else found or ""

    return cell


def _tables(evaluation: Evaluation) -> list[RenderableType]:
    """What is asked of the site, then what is asked of the network with each of them in its place."""
    asked = [_columns(evaluation, every) for every in (_OF_THE_SITE, _OF_THE_NETWORK)]
    titles = ("", "in the network")
    return [_table(evaluation, title, columns) for title, columns in zip(titles, asked) if columns]


def _table(evaluation: Evaluation, title: str, columns: list[tuple[str, Callable[[Scores], str]]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    table.add_column("latents", justify="right")
    for name, _ in columns:
        table.add_column(name, justify="right")
    for index, each in enumerate(evaluation.scores):
        cells = [cell(each) for _, cell in columns]
        if any(cells):
            table.add_row(each.name, str(each.width), *cells, style="bold" if index == 0 else None)
    return table


def _stability(stable: Stability) -> Text:
    covariance = "" if stable.covariance_subspace != stable.covariance_subspace else (
        f", directions of the activations' covariance {stable.covariance_subspace:.3f}"
    )  # fmt: skip
    return Text(
        f"Seeds agree with MMCS {stable.mmcs.value:.3f} (random {stable.mmcs.null_mean:.3f}); their main "
        f"{stable.dimension}-dimensional subspaces overlap by {stable.subspace.value:.3f} (random "
        f"{stable.subspace.null_mean:.3f}{covariance})."
    )


def _purity(purity: Purity) -> RenderableType:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("polysemanticity", "tested", "median score", "more than one mode", "effective modes"):
        table.add_column(name, justify="left" if name == "polysemanticity" else "right")
    for name, layer in (("units", purity.before), ("latents", purity.after)):
        cells = (layer.median(), layer.polysemantic, layer.median("effective"))
        table.add_row(name, f"{int(layer.tested.sum())} of {len(layer.units)}", *(_short(each) for each in cells))
    if purity.difference is None:
        said = "Too few have 16 examples of different origins; show more stimuli."
    else:
        said = (
            f"Latents less units: {_short(purity.difference)}, p = {purity.difference.p:.2g} (Mann-Whitney "
            f"{purity.rank_p:.2g}); below 0: latents mean fewer things. On {purity.stimuli}."
        )
    return Group(table, Text(said))


def _short(value: Measurement) -> str:
    return f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"
