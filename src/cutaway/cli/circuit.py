"""``cutaway circuit``: which edges of a transformer compute a behaviour, and how well they stand for it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net

if TYPE_CHECKING:
    from cutaway.circuits.edges import Pairs
    from cutaway.cli.tasks import Asked

Task = Annotated[
    str | None,
    typer.Option(
        "--task", metavar="NAME", show_default=False,
        help="ioi, greater-than, docstring, induction, gendered-pronoun, capital-of, antonym, agreement, or random "
        "(random words, the whole output counts: for compiled networks, and their default).",
    ),
]  # fmt: skip
File = Annotated[
    Path | None,
    typer.Option(
        "--file", metavar="FILE", show_default=False, dir_okay=False,
        help="Your own task: JSON Lines with clean, corrupt, target, against (template, group, split if you like).",
    ),
]  # fmt: skip
Method = Annotated[str, typer.Option("--method", metavar="NAME", help="verified, exact, eap, eap-ig, acdc or mask.")]
Ablation = Annotated[
    str, typer.Option("--ablation", metavar="NAME", help="What a cut edge carries: resample, mean, zero or permute.")
]
Count = Annotated[
    int, typer.Option("--pairs", metavar="N", min=4, help="Pairs to find the circuit on; as many are held out.")
]
Templates = Annotated[
    str, typer.Option("--templates", metavar="A[,B]", help="Wordings to find it on; a second set tests rephrasing.")
]
Random = Annotated[int, typer.Option("--random", metavar="N", min=19, help="Random circuits of the same size.")]
Tested = Annotated[
    int, typer.Option("--tested", metavar="N", min=0, help="Edges of the circuit that are removed one by one.")
]
Tau = Annotated[float, typer.Option("--tau", metavar="X", min=0.0, help="ACDC keeps an edge from this divergence on.")]
Edges = Annotated[int, typer.Option("--edges", metavar="N", min=1, help="Strongest edges to list beside the circuit.")]
Multi = Annotated[
    bool, typer.Option("--multiverse", help="Also under every metric, ablation, wording and half and double size.")
]
Neurons = Annotated[bool, typer.Option("--neurons/--no-neurons", help="Single neurons and heads as a baseline.")]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Also draw curve and circuit: FILE.png or FILE.svg.", show_default=False,
        dir_okay=False,
    ),
]  # fmt: skip


def circuit(
    out: Output,
    net: Net,
    task: Task = None,
    file: File = None,
    method: Method = "verified",
    ablation: Ablation = "resample",
    pairs: Count = 32,
    templates: Templates = "a",
    random: Random = 100,
    tested: Tested = 16,
    tau: Tau = 0.01,
    edges: Edges = 200,
    multiverse: Multi = False,
    neurons: Neurons = True,
    picture: Picture = None,
) -> None:
    """The circuit of a behaviour: scored edges, the smallest set that does 90 % of it, and the tests of that set.

    Found on some pairs of prompts and held against others: the curve over sizes, random circuits of the same size,
    equivalence, independence, completeness and minimality, other ablations, redrawn pairs and single neurons.
    """
    from cutaway.circuits.discovery import METHODS
    from cutaway.circuits.drawing.style import check_suffix
    from cutaway.circuits.edges.references import check_ablation
    from cutaway.circuits.faithfulness import Plan
    from cutaway.cli.tasks import asked
    from cutaway.cli.views.circuit import facts, view
    from cutaway.networks import load

    if picture is not None:
        check_suffix(picture)  # a wrong name is told before any work
    _ = METHODS[method]
    check_ablation(ablation)
    network = load(net, device=out.shared.device, progress=out.say)
    question = asked(network, task=task, file=file, count=pairs, templates=templates, seed=out.shared.seed, say=out.say)
    plan = Plan(random=random, tested=tested, neurons=neurons, seed=out.shared.seed, say=out.say, progress=out.progress)
    found, rephrased = _studied(out, network, question, method, ablation, tau, plan)
    every = _multiverse(out, found, question) if multiverse else None
    if picture is not None:
        _draw(out, found, picture, f"{network.name}: {question.name}")
    document = facts(found, question, rephrased, every, edges=edges, picture=picture)
    out.result(document, lambda: view(network, found, question, rephrased, every), network=network)


def _studied(
    out: Output, network: Any, question: "Asked", method: str, ablation: str, tau: float, plan: Any
) -> tuple[Any, Any]:
    """The study, and what another wording gives."""
    from cutaway.circuits.discovery import Options, rank, setup
    from cutaway.circuits.edges import wire
    from cutaway.circuits.faithfulness import study

    wired = wire(network)

    def prepared(pairs: "Pairs", entities: Any) -> Any:
        return setup(
            wired, pairs, question.metric(network, pairs), ablation=ablation, entities=entities, seed=out.shared.seed
        )

    found = prepared(question.found, question.found_entities)
    held = prepared(question.held, question.held_entities)
    options = Options(tau=tau, seed=out.shared.seed, say=out.say, progress=plan.bar("scores"))
    out.say(f"Scores of {wired.graph.count} edges by {method}")
    ranking = rank(found, method, options)
    studied = study(network, found, held, ranking, plan)
    if question.other is None:
        return studied, None
    out.say("The same for the other wording")
    other = prepared(question.other, question.other_entities)
    return studied, _rephrased(studied, other, rank(other, method, options), out.shared.seed)


def _rephrased(studied: Any, other: Any, ranking: Any, seed: int) -> dict[str, Any]:
    """Overlap with the circuit of the same size of the other wording, and f of this circuit on it."""
    from cutaway.circuits.faithfulness import faithfulness_of, overlap

    topology, mask = studied.topology, studied.mask
    rival = topology.top(ranking.order(), max(1, int(mask.sum())))
    values = other.values([topology.tensor(mask)])[0]
    return {
        "jaccard": overlap(topology, mask, rival, n=len(other.pairs), seed=seed),
        "faithfulness": faithfulness_of(other, values, seed=seed),
    }


def _multiverse(out: Output, found: Any, question: "Asked") -> Any:
    """The circuit, half of it and twice as much under every combination of choices."""
    from cutaway.circuits.faithfulness import faithfulness_multiverse
    from cutaway.errors import NotTestable

    if found.held.whole_output:
        raise NotTestable("The multiverse varies metrics of named answers; random words have none, so name a task.")
    topology, size = found.topology, max(2, int(found.mask.sum()))
    order, most = found.ranking.order(), topology.graph.count
    circuits = {count: topology.top(order, count) for count in sorted({size // 2, size, min(2 * size, most)})}
    wordings = {"a": question.held} if question.other is None else {"a": question.held, "b": question.other}
    few = {name: pairs.part(range(min(8, len(pairs)))) for name, pairs in wordings.items()}
    done: list[Any] = []

    def heard(result: Any) -> None:
        done.append(result)
        out.progress(len(done), 12 * len(circuits) * len(few), "specifications")

    return faithfulness_multiverse(
        found.held.wired, topology, circuits, few, seed=out.shared.seed, on_result=heard
    )  # fmt: skip


def _draw(out: Output, found: Any, picture: Path, title: str) -> None:
    from cutaway.circuits.drawing.style import save
    from cutaway.circuits.faithfulness import study_picture

    out.say(f"Picture: {save(study_picture(found, title=title), picture)}")
