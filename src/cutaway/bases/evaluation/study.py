"""From a network and a site to trained dictionaries and their evaluations: the workflow behind ``cutaway unfold``.

1. Stimuli are split: documents and pictures that are trained on, and others that are evaluated on.
2. What lies at the site is stored once and every recipe is trained from the same batches.
3. Each dictionary is evaluated on the held-out stimuli, beside its rivals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cutaway
from cutaway.bases.activations import ShardSource, StreamSource, cache
from cutaway.bases.basis import Basis, Origin
from cutaway.bases.dictionaries import Recipe
from cutaway.bases.rows import to_rows
from cutaway.bases.training import Trained, train
from cutaway.bases.unfolding.behaviour import Progress
from cutaway.bases.unfolding.showing import FEW_FILES, as_set, batches, most_tokens
from cutaway.errors import BadInput, UnknownName
from cutaway.networks.network import Network
from cutaway.stimuli import StimulusSet, content_id

HELD_OUT = 0.2
"""Share of the stimuli that are evaluated on."""
WINDOW = 128
BATCH = 2048
PASSES = 8  # over the rows, within the limits below, unless the number of steps is given
FEWEST_STEPS, MOST_STEPS = 400, 4000
SMALL = 1 << 30  # bytes up to which activations are stored in full precision


@dataclass(frozen=True)
class Place:
    """Where a dictionary stands: what it reads, what it writes, and which rows count.

    ``skip_first`` tokens of each text are left out; ``rows`` is about how many rows are trained on (all if None).
    """

    reads: str
    writes: str
    skip_first: int = 0
    rows: int | None = None
    seed: int = 0


def default_skip(network: Network) -> int:
    """1 for language models, whose first token is mostly an attention sink with a norm of its own kind; else 0."""
    return 1 if network.task == "causal-lm" else 0


def mlp_sites(network: Network, site: str) -> tuple[str, str]:
    """What the MLP of a site's block reads and writes, for a transcoder; ``BadInput`` where there is none."""
    block, _, part = site.rpartition(".")
    if part in ("mlp", "mlp_in", "mlp_out"):
        try:
            return network.site(f"{block}.mlp_in").name, network.site(f"{block}.mlp_out").name
        except UnknownName as error:
            raise BadInput(f"{network.name} names no site for what {site} reads or writes; give --reads.") from error
    raise BadInput(f"A transcoder of {site} was asked for, which is no MLP; give layers.N.mlp_out, or --reads SITE.")


def split(stimuli: Any, *, share: float = HELD_OUT, seed: int = 0) -> tuple[StimulusSet, StimulusSet]:
    """Stimuli to train on and stimuli to evaluate on; no document or photograph is in both.

    Passages of fewer than eight text files are cut in two where they lie: the end of the corpus is held out, so that
    no passage is beside its neighbour. Raises ``BadInput`` for fewer than two stimuli.
    """
    given = as_set(stimuli)
    if len(given) < 2:
        raise BadInput(f"{given.name} holds one stimulus, and some must be held out to evaluate on; give more.")
    groups = {each.group for each in given}
    if len(groups) >= FEW_FILES or any(each.kind != "text" for each in given):
        held, rest = given.split(share, seed=seed)
        return rest, held
    cut = min(len(given) - 1, max(1, round(len(given) * (1 - share))))
    name = given.name
    return StimulusSet(f"{name}[first {cut}]", given[:cut]), StimulusSet(f"{name}[after {cut}]", given[cut:])


def limited(network: Network, stimuli: StimulusSet, tokens: int | None) -> StimulusSet:
    """The first texts that hold so many tokens together; all of them (and all pictures) without a limit."""
    if tokens is None or network.tokenizer is None:
        return stimuli
    count = 0
    for place, stimulus in enumerate(stimuli):
        if count >= tokens:
            return StimulusSet(f"{stimuli.name}[{place} texts]", stimuli[:place])
        count += len(network.tokenizer.encode(stimulus.load()))
    return stimuli


def recipes(
    *, kind: str, widths: Sequence[int], ks: Sequence[int | None], seeds: int, rows: int, steps: int | None, skip: bool
) -> list[Recipe]:
    """One recipe for every width, k and seed; batches and steps that suit the number of rows."""
    batch = max(1, min(BATCH, rows // 4))
    steps = steps or max(FEWEST_STEPS, min(MOST_STEPS, PASSES * rows // batch))
    return [
        Recipe(kind=kind, width=width, k=k, seed=seed, steps=steps, batch=batch, skip=skip,
               name=f"{kind}{width}{f'-k{k}' if k else ''}{f'-s{seed}' if seed else ''}")
        for width in widths for k in ks for seed in range(seeds)
    ]  # fmt: skip


def rows_of(
    network: Network, stimuli: StimulusSet, place: Place, folder: Path | None, say: Progress | None
) -> ShardSource | StreamSource:
    """The rows at a place, stored in ``folder`` (a later call reads them), or streamed without one."""
    per_image = None if network.modality == "text" else _per_image(network, stimuli, place)
    options: dict[str, Any] = {
        "window": most_tokens(network, WINDOW), "skip": place.skip_first, "per_image": per_image, "seed": place.seed,
    }  # fmt: skip
    if folder is None:
        return StreamSource(network, stimuli, place.reads, place.writes, **options)
    width = sum(network.site(name).width or 0 for name in {place.reads, place.writes})
    dtype = "float32" if (place.rows or SMALL) * width * 4 <= SMALL else "float16"

    def progress(done: int, total: int) -> None:
        if say is not None:
            say(done, total, f"storing what lies at {place.reads}")

    return cache(network, stimuli, place.reads, place.writes, folder=folder, dtype=dtype, progress=progress, **options)


def _per_image(network: Network, stimuli: StimulusSet, place: Place) -> int | None:
    """Positions of each picture that give the wanted number of rows; all where that is most of them."""
    if place.rows is None:
        return None
    site = network.site(place.reads)
    first = next(batches(network, [stimuli[0]], batch_size=1))
    there = network.run(first.batch, capture=[site.name], stop_at=True)[site.name]
    wanted = -(-place.rows // len(stimuli))
    return None if wanted > len(to_rows(there, site)) // 2 else wanted


def learn(
    network: Network,
    stimuli: StimulusSet,
    place: Place,
    make: Callable[[int], Sequence[Recipe]],
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> list[Trained]:
    """Dictionaries of a site, all from the same batches; ``make`` gives the recipes for a number of rows.

    With ``folder``, activations and checkpoints are kept there: a killed run goes on where it was, and one with other
    stimuli or recipes begins anew beside it.
    """
    home = None if folder is None else folder / "training" / _key(network.fingerprint, stimuli.fingerprint, place)
    source = rows_of(network, stimuli, place, None if home is None else home / "activations", progress)
    plan = list(make(source.count))
    origin = Origin(
        network.name, network.fingerprint, place.reads, place.writes, stimuli.fingerprint, place.seed,
        cutaway.__version__,
    )  # fmt: skip

    def report(done: Any) -> None:
        if progress is not None:
            what = f"training {done.name} (L0 {done.l0:.0f}, explained {done.explained:.3f}, dead {done.dead:.0%})"
            progress(done.step, done.steps, what if done.step == done.steps else f"training {done.name}")

    kept = None if home is None else home / f"checkpoint-{_key(*(recipe.to_json() for recipe in plan))}"
    found = train(source, plan, folder=kept, progress=report, device=network.device, origin=origin, order=place.seed)
    for each, recipe in zip(found, plan):
        each.dictionary.origin = replace(origin, seed=recipe.seed)
    return found


def _key(*settings: Any) -> str:
    return content_id("\x1f".join(map(repr, settings)))


def twin_maker(
    stimuli: StimulusSet, place: Place, recipe: Recipe, *, progress: Progress | None = None
) -> Callable[[Network], Basis]:
    """What makes the same kind of dictionary on another network: the null of an untrained twin."""

    def make(network: Network) -> Basis:
        return learn(network, stimuli, place, lambda rows: [recipe], progress=progress)[0].dictionary

    return make
