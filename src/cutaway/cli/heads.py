"""``cutaway heads``: what attention heads do, and what they are made of."""

from pathlib import Path
from typing import Annotated, Any

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Stimuli, chosen

PASSAGES = 24  # of a user's texts; a passage is cut at 64 tokens

One = Annotated[
    str | None,
    typer.Option(
        "--head", metavar="LAYER.HEAD", show_default=False,
        help="Also this head's QK and OV circuits in tokens, and which earlier heads it reads.",
    ),
]  # fmt: skip
Sequences = Annotated[int, typer.Option("--sequences", metavar="N", min=2, help="Sequences of repeated random tokens.")]
Length = Annotated[int, typer.Option("--length", metavar="N", min=3, help="Random tokens before they are repeated.")]
Offset = Annotated[
    int, typer.Option("--offset", metavar="N", min=0, help="With --head: positions from the query back to the key.")
]
Neurons = Annotated[
    bool, typer.Option("--neurons", help="Also MLP neurons: rules they follow, tokens they write, opposite pairs.")
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE.png", help="Heat maps of all heads.", show_default=False, dir_okay=False
    ),
]  # fmt: skip
Count = Annotated[int, typer.Option("--top", metavar="N", min=1, help="Rows shown of each list.")]


def heads(
    out: Output,
    net: Net,
    head: One = None,
    sequences: Sequences = 16,
    length: Length = 32,
    offset: Offset = 1,
    neurons: Neurons = False,
    stimuli: Stimuli = None,
    picture: Picture = None,
    count: Count = 5,
) -> None:
    """What every attention head looks at and does, each score with its null.

    Induction, previous token, duplicates, copying, successors, rest at the start, dependence on the offset, pieces of
    words. Null stands for a detector that the network cannot be asked.
    """
    from cutaway.circuits.transformer import parse_head
    from cutaway.cli.views.heads import facts, view
    from cutaway.features.heads import detect_heads, draw_heads
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    wanted = None if head is None else parse_head(network, head)
    shown = None if stimuli is None else chosen(network, stimuli, limit=PASSAGES, seed=out.shared.seed)
    texts = None if shown is None else [each.load() for each in shown]
    report = detect_heads(
        network, sequences=sequences, length=length, texts=texts, seed=out.shared.seed, progress=out.progress
    )
    single = None if wanted is None else _single(network, *wanted, offset=offset, seed=out.shared.seed)
    cells = _neurons(network, texts, count, out.shared.seed) if neurons else None
    drawn = None if picture is None else draw_heads(report, picture)
    found = facts(report, single, cells, drawn)
    out.result(found, lambda: view(report, single, cells, drawn, count=count), network=network)


def _single(network: Any, layer: int, head: int, *, offset: int, seed: int) -> dict[str, Any]:
    """One head's circuits; what cannot be asked of the network is None."""
    from cutaway.circuits.transformer import compositions, ov_directions, ov_form, qk_directions, qk_form
    from cutaway.errors import NotTestable

    def asked(question: Any) -> Any:
        try:
            return question()
        except NotTestable:
            return None

    place = (network, layer, head)
    return {
        "name": f"{layer}.{head}",
        "offset": offset,
        "qk_symmetric_share": qk_form(*place, offset=offset).symmetric_share(),
        "qk_norm": qk_form(*place, offset=offset).norm(),
        "ov_norm": ov_form(*place).norm(),
        "qk": asked(lambda: qk_directions(*place, offset=offset)),
        "ov": asked(lambda: ov_directions(*place)),
        "composition": asked(lambda: compositions(*place, offset=offset, seed=seed)),
    }


def _neurons(network: Any, texts: Any, count: int, seed: int) -> dict[str, Any]:
    """Neuron families; those that cannot be asked of the network are None."""
    from cutaway.errors import NotTestable
    from cutaway.features.heads import antipodal_pairs, output_neurons, rule_neurons

    questions: dict[str, Any] = {
        "rules": lambda: rule_neurons(network, texts=texts, count=count, seed=seed),
        "outputs": lambda: output_neurons(network, count=count, seed=seed),
        "antipodal": lambda: antipodal_pairs(network, count=count, seed=seed),
    }
    found: dict[str, Any] = {}
    for name, question in questions.items():
        try:
            found[name] = question()
        except NotTestable:
            found[name] = None
    return found
