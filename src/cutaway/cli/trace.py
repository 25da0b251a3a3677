"""``cutaway trace``: why a language model answers one word and not another, as a graph that has been tested."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net

if TYPE_CHECKING:
    from cutaway.circuits.tracing import Budget


class Against(StrEnum):
    """What each part is held against."""

    text = "text"
    zero = "zero"


class Rule(StrEnum):
    """How the graph is pruned."""

    flow = "flow"
    influence = "influence"


Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="The text before the answer.", show_default=False)]
Target = Annotated[
    str | None,
    typer.Option("--target", metavar="WORD", help="The answer to explain: one token, or <ID>.", show_default=False),
]
Other = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="WORD", help="The answer it is held against. [default: the mean of all]",
        show_default=False,
    ),
]  # fmt: skip
Corrupt = Annotated[
    str | None,
    typer.Option(
        "--corrupt", metavar="PROMPT", help="Hold parts against this prompt of the same length, not against a mean.",
        show_default=False,
    ),
]  # fmt: skip
Baseline = Annotated[
    Against,
    typer.Option("--baseline", help="Hold parts against their mean over built-in text, or count them whole (zero)."),
]
Pruning = Annotated[
    Rule, typer.Option("--rule", help="Keep the largest flows from the output on, or the published influence.")
]
Nodes = Annotated[int, typer.Option("--nodes", metavar="N", min=1, help="Keep at most N heads and neurons.")]
Edges = Annotated[int, typer.Option("--edges", metavar="N", min=1, help="Keep at most N edges.")]
NoTest = Annotated[bool, typer.Option("--no-test", help="Cut no edge: faster, and nothing is checked.")]
Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--out", metavar="FILE", help="Also write it: .html, .svg, .dot or .json; may be given several times.",
        show_default=False, dir_okay=False,
    ),
]  # fmt: skip


def trace(
    out: Output,
    net: Net,
    prompt: Prompt,
    target: Target = None,
    against: Other = None,
    corrupt: Corrupt = None,
    baseline: Baseline = Against.text,
    rule: Pruning = Rule.flow,
    nodes: Nodes = 40,
    edges: Edges = 80,
    no_test: NoTest = False,
    files: Files = None,
) -> None:
    """Why the network continues PROMPT with --target, not --against: an attribution graph, every kept edge cut to see.

    Nodes are tokens, heads and neurons at positions; edges are signed, in logits, and sum to the difference of the two
    answers before pruning. Attention is held fixed and explained apart. Each kept edge is then cut alone and the
    network run again.
    """
    from cutaway.circuits import tracing
    from cutaway.networks import load

    targets = [tracing.check_file(path) for path in files or ()]  # a wrong name is told before any work
    budget = _budget(rule, nodes, edges)
    network = load(net, device=out.shared.device, progress=out.say)
    found = tracing.trace(
        network, prompt, target, against, budget=budget, baseline=baseline.value, corrupt=corrupt, test=not no_test,
        seed=out.shared.seed, progress=_progress(out),
    )  # fmt: skip
    for path in targets:
        out.say(f"Written: {tracing.save(found, path)}")
    facts = found.to_json()
    del facts["network"], facts["fingerprint"]  # the document names them itself
    from cutaway.cli.views.trace import view

    out.result({**facts, "files": [str(path) for path in targets]}, lambda: view(found), network=network)


def _budget(rule: Rule, nodes: int, edges: int) -> "Budget":
    from cutaway.circuits.tracing import Budget

    return Budget(rule=rule.value, nodes=nodes, edges=edges)


def _progress(out: Output) -> Callable[[int, int, str], None]:
    return out.progress
