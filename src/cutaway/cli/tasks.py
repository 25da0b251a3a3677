"""Which pairs a command is about: a task by name, a file of one's own, or random words."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cutaway.errors import BadInput

if TYPE_CHECKING:
    from cutaway.circuits.edges import Metric, Pairs
    from cutaway.evidence import Measurement
    from cutaway.stimuli.tasks import TaskSet

RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Asked:
    """Pairs to find on, pairs held out, perhaps pairs of another wording, and how well the network does them."""

    name: str
    found: "Pairs"
    held: "Pairs"
    other: "Pairs | None" = None
    found_entities: tuple[Hashable, ...] = ()
    held_entities: tuple[Hashable, ...] = ()
    other_entities: tuple[Hashable, ...] = ()
    accuracy: "Measurement | None" = None
    templates: str = ""
    notes: tuple[str, ...] = ()

    def metric(self, network: Any, pairs: "Pairs") -> "Metric":
        """The logit difference where answers are named, else the projection on the whole clean output."""
        from cutaway.circuits.edges import logit_difference, projection

        return logit_difference() if pairs.target is not None else projection(network, pairs)


def asked(
    network: Any,
    *,
    task: str | None,
    file: Path | None,
    count: int,
    templates: str,
    seed: int,
    say: Callable[[str], None],
) -> Asked:
    """The pairs of a task; refuses networks without edges, without numbers or without the ability."""
    from cutaway.circuits.edges import wire

    if task is not None and file is not None:
        raise BadInput("Both --task and --file were given; choose one.")
    wire(network)  # tells at once where edges are not defined
    if file is None and (task == RANDOM or (task is None and network.family == "compiled")):
        return _random(network, count, seed)
    if task is None and file is None:
        raise BadInput("A circuit computes something: name it with --task (ioi, induction, ...) or --file.")
    sets, notes = (
        _from_file(network, file, count) if file is not None else _built_in(network, task, count, templates, seed)
    )
    return _prepared(network, sets, notes, say)


def _random(network: Any, count: int, seed: int) -> Asked:
    from cutaway.circuits.edges.tasks import random_pairs

    return Asked(
        RANDOM, random_pairs(network, count, seed=2 * seed), random_pairs(network, count, seed=2 * seed + 1),
        notes=("random words: every position answers, and the whole output counts",),
    )  # fmt: skip


def _built_in(
    network: Any, name: str | None, count: int, templates: str, seed: int
) -> tuple[list["TaskSet"], tuple[str, ...]]:
    from cutaway.stimuli.tasks import task

    wordings = [each.strip() for each in templates.split(",") if each.strip()]
    if not 1 <= len(wordings) <= 2:
        raise BadInput(f"Wordings {templates!r} were asked for; name one set or two, as in a,b.")
    found = task(name or "", network.tokenizer, count=count, split="train", templates=wordings[0], seed=seed)
    held, notes = _held_out(network, name or "", count, wordings[0], seed)
    others = [task(name or "", network.tokenizer, count=count, templates=each, seed=seed) for each in wordings[1:]]
    return [found, held, *others], notes


def _held_out(network: Any, name: str, count: int, templates: str, seed: int) -> tuple["TaskSet", tuple[str, ...]]:
    """Pairs of other words; fewer where there are not as many."""
    from cutaway.stimuli.tasks import task

    wanted = count
    while True:
        try:
            held = task(name, network.tokenizer, count=wanted, split="test", templates=templates, seed=seed)
        except BadInput:
            if wanted <= 4:
                raise
            wanted = max(4, wanted // 2)
            continue
        notes = () if wanted == count else (f"only {wanted} pairs could be held out",)
        return held, notes


def _from_file(network: Any, file: Path, count: int) -> tuple[list["TaskSet"], tuple[str, ...]]:
    """The file's own splits where it has them; otherwise the same pairs for both, which is said."""
    from cutaway.stimuli.tasks import task_file

    every = task_file(file, network.tokenizer)
    try:
        found = task_file(file, network.tokenizer, split="train")
        held = task_file(file, network.tokenizer, split="test")
    except BadInput:
        note = "no pairs were held out: the circuit is measured on the pairs it was found on (add a split field)"
        return [_first(every, count), _first(every, count)], (note,)
    return [_first(found, count), _first(held, count)], ()


def _first(pairs: "TaskSet", count: int) -> "TaskSet":
    from dataclasses import replace

    return replace(pairs, pairs=pairs.pairs[:count])


def _prepared(network: Any, sets: list["TaskSet"], notes: tuple[str, ...], say: Callable[[str], None]) -> Asked:
    from cutaway.circuits.edges import logit_difference
    from cutaway.circuits.edges.tasks import check_able, check_finite, prepared

    ready = [prepared(network, each) for each in sets]
    check_finite(network, ready[0], logit_difference())
    accuracy = check_able(network, ready[0])
    say(f"{network.name} answers {accuracy.value:.0%} of {len(ready[0])} pairs of {sets[0].name} rightly")
    entities = [tuple(pair.group or pair.id for pair in each.pairs) for each in sets]
    other = len(sets) > 2
    return Asked(
        sets[0].name, ready[0], ready[1], ready[2] if other else None, entities[0], entities[1],
        entities[2] if other else (), accuracy, sets[0].templates, notes,
    )  # fmt: skip
