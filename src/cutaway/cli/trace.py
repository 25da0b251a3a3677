"""``cutaway trace``: why a network gives one answer and not another, as a graph that has been tested."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net

if TYPE_CHECKING:
    from cutaway.bases import Basis
    from cutaway.circuits.tracing import Budget
    from cutaway.networks import Network


class Against(StrEnum):
    """What each part is held against."""

    text = "text"
    zero = "zero"


class Rule(StrEnum):
    """How the graph is pruned."""

    flow = "flow"
    influence = "influence"


Prompt = Annotated[
    str,
    typer.Argument(
        metavar="PROMPT",
        help="The text before the answer; for an image network a picture's file or an embedded photograph (coffee).",
        show_default=False,
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target", metavar="WORD", show_default=False,
        help="The answer to explain: one token, or <ID>. Of a picture: an output, or a pixel as SITE:UNIT@Y,X.",
    ),
]  # fmt: skip
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
Nodes = Annotated[int, typer.Option("--nodes", metavar="N", min=1, help="Keep at most N heads, neurons and features.")]
Edges = Annotated[int, typer.Option("--edges", metavar="N", min=1, help="Keep at most N edges.")]
Bases = Annotated[
    list[str] | None,
    typer.Option(
        "--basis", metavar="NAME|FOLDER", show_default=False,
        help="Take a site apart in the features of this basis (an SAE or a transcoder); may be given several times.",
    ),
]  # fmt: skip
Sites = Annotated[
    list[str] | None,
    typer.Option(
        "--site", metavar="SITE", show_default=False,
        help="Of a picture: open this feature map in channels; may be given several times. [default: four]",
    ),
]  # fmt: skip
Cell = Annotated[
    int, typer.Option("--cell", metavar="PX", min=1, help="Of a picture: a unit in a square of PX pixels is one node.")
]
Size = Annotated[
    int | None,
    typer.Option(
        "--size", metavar="PX", min=1, help="Shrink the picture to a square of PX pixels.", show_default=False
    ),
]
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
    basis: Bases = None,
    corrupt: Corrupt = None,
    baseline: Baseline = Against.text,
    rule: Pruning = Rule.flow,
    nodes: Nodes = 40,
    edges: Edges = 80,
    site: Sites = None,
    cell: Cell = 16,
    size: Size = None,
    no_test: NoTest = False,
    files: Files = None,
) -> None:
    """Why the network continues PROMPT with --target, not --against: an attribution graph, every kept edge cut to see.

    Nodes are tokens, heads and neurons at positions, and, with --basis, features; edges are signed, in logits, and sum
    to the difference of the two answers before pruning. Attention is held fixed and explained apart. Each kept edge is
    then cut alone and the network run again. For an image network: why an output, or a pixel of a map, is what it is.
    """
    from cutaway.circuits import tracing
    from cutaway.networks import load

    targets = [tracing.check_file(path) for path in files or ()]  # a wrong name is told before any work
    budget = _budget(rule, nodes, edges)
    network = load(net, device=out.shared.device, progress=out.say)
    bases = _opened(basis or (), network)
    if network.modality == "image":
        asked = _asked(network, target, targets)
        _of_picture(
            out, network, prompt, asked, against, site or (), bases, cell, size, budget, not no_test, targets
        )  # fmt: skip
        return
    found = tracing.trace(
        network, prompt, target, against, budget=budget, baseline=baseline.value, corrupt=corrupt, bases=bases,
        test=not no_test, seed=out.shared.seed, progress=_progress(out),
    )  # fmt: skip
    for path in targets:
        out.say(f"Written: {tracing.save(found, path)}")
    facts = found.to_json()
    del facts["network"], facts["fingerprint"]  # the document names them itself
    from cutaway.cli.views.trace import view

    out.result({**facts, "files": [str(path) for path in targets]}, lambda: view(found), network=network)


def _opened(names: Sequence[str], network: "Network") -> "list[Basis]":
    if not names:
        return []
    from cutaway.bases.store import open_basis

    return [open_basis(name, network) for name in names]


def _asked(network: "Network", target: str | None, files: Sequence[Path]) -> str:
    """What is to be explained of a picture; refused before any work where that cannot be."""
    from cutaway.cli.views.maps import check_file
    from cutaway.errors import BadInput, NotTestable

    for path in files:
        check_file(path)

    if not any(site.spatial for site in network.sites()):
        raise NotTestable(f"{network.name} has no feature maps; graphs are of language models and of maps.")
    if target is None:
        raise BadInput("No target was named; say what is to be explained: an output, or a pixel as SITE:UNIT@Y,X.")
    return target


def _of_picture(
    out: Output, network: "Network", picture: str, target: str, against: str | None, sites: Sequence[str],
    bases: "Sequence[Basis]", cell: int, size: int | None, budget: "Budget", test: bool, files: Sequence[Path],
) -> None:  # fmt: skip
    import dataclasses

    from cutaway.circuits.maps import trace_maps
    from cutaway.circuits.maps.make import POOL
    from cutaway.cli.views.maps import save, view

    found = trace_maps(
        network, _picture(network, picture, size), target, against, sites=sites, bases=bases, cell=cell,
        budget=dataclasses.replace(budget, pool=POOL), test=test, seed=out.shared.seed, progress=_progress(out),
    )  # fmt: skip
    found = dataclasses.replace(found, stimulus=picture)
    for path in files:
        out.say(f"Written: {save(found, path)}")
    facts = found.to_json()
    del facts["network"], facts["fingerprint"]
    out.result({**facts, "files": [str(path) for path in files]}, lambda: view(found), network=network)


def _picture(network: "Network", name: str, size: int | None) -> Any:
    """A picture's file, or an embedded photograph by its name; with ``size`` shown at that size and no other."""
    from cutaway import stimuli
    from cutaway.errors import UnknownName

    if Path(name).is_file():
        image = stimuli.read_image(name)
    else:
        known = {Path(each.source).stem: each for each in stimuli.builtin_photographs(crops=0)}
        if name not in known:
            raise UnknownName("picture", name, known, "Give a picture's file, or an embedded photograph.")
        image = known[name].load()
    return image if size is None else network.prepare_rgb(_pixels(image.resize((size, size))))


def _pixels(image: Any) -> Any:
    """RGB in 0 to 1, [1 3 y x]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.asarray(image, dtype=np.float32).copy() / 255).permute(2, 0, 1)[None]


def _budget(rule: Rule, nodes: int, edges: int) -> "Budget":
    from cutaway.circuits.tracing import Budget

    return Budget(rule=rule.value, nodes=nodes, edges=edges)


def _progress(out: Output) -> Callable[[int, int, str], None]:
    return out.progress
