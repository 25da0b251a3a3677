"""``cutaway unfold``: a site in wider, sparser coordinates, and what of the network survives there."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cutaway.cli.output import Output
from cutaway.cli.show import Net
from cutaway.cli.stimuli import Stimuli, chosen
from cutaway.cli.workplace import RUNS, folder_of

_TRAINING, _MEASURING = "Training", "Measuring"


def _option(*names: str, panel: str, help: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=more.pop("show_default", True), **more)


Site = Annotated[
    str, typer.Argument(metavar="SITE", help="What is replaced: conv4_2, layers.15.resid.", show_default=False)
]
Folder = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Where dictionaries, unfold.json and unfold.png go. "
                 "[default: bases/SITE in the atlas]", show_default=False, file_okay=False),
]  # fmt: skip
Loaded = Annotated[
    str | None,
    typer.Option("--basis", metavar="NAME|DIR", help="Measure this basis instead of training one.", show_default=False),
]
Kind = Annotated[
    str, _option("--kind", metavar="KIND", panel=_TRAINING,
                 help="topk, batchtopk, relu, gated, jumprelu or matryoshka.")
]  # fmt: skip
Latents = Annotated[
    str | None,
    _option("--latents", metavar="N[,N]", panel=_TRAINING, show_default=False,
            help="Latents; several numbers train one dictionary each. [default: 8 times the site's width]"),
]  # fmt: skip
Active = Annotated[
    str, _option("--k", metavar="N[,N]", panel=_TRAINING, help="Active latents a row, for kinds that have a k.")
]
Tokens = Annotated[
    int, _option("--tokens", metavar="N", min=2, panel=_TRAINING, help="Rows to train on: tokens, or pixels of maps.")
]
Steps = Annotated[
    int | None,
    _option("--steps", metavar="N", min=1, panel=_TRAINING, show_default=False,
            help="Training steps. [default: about 8 passes over the rows, 400 to 4000]"),
]  # fmt: skip
Seeds = Annotated[
    int, _option("--seeds", metavar="N", min=1, panel=_TRAINING, help="Dictionaries of each size, to compare seeds.")
]
Transcode = Annotated[
    bool, _option("--transcode", panel=_TRAINING, help="Compute what the MLP writes from what it reads: a transcoder.")
]
Reads = Annotated[
    str | None,
    _option("--reads", metavar="SITE", panel=_TRAINING, show_default=False,
            help="A transcoder that computes SITE from this one."),
]  # fmt: skip
Bypass = Annotated[bool, _option("--skip", panel=_TRAINING, help="Give a transcoder a linear by-pass.")]
First = Annotated[
    int | None,
    _option("--skip-first", metavar="N", min=0, panel=_MEASURING, show_default=False,
            help="Leave so many tokens of each text as they are. [default: 1 for language models]"),
]  # fmt: skip
Held = Annotated[
    int, _option("--held", metavar="N", min=1, panel=_MEASURING, help="Held-out stimuli that are measured on, at most.")
]
Compared = Annotated[
    int, _option("--compare", metavar="N", min=0, panel=_MEASURING,
                 help="Held-out stimuli on which whole networks are compared."),
]  # fmt: skip
Features = Annotated[
    int, _option("--features", metavar="N", min=0, panel=_MEASURING,
                 help="Units, and latents, whose polysemanticity is measured before and after; 0 for none."),
]  # fmt: skip
Twin = Annotated[
    bool, _option("--twin", panel=_MEASURING, help="Also train the same kind on an untrained twin (as long again).")
]
Task = Annotated[
    str | None,
    _option("--task", metavar="NAME", panel=_MEASURING, show_default=False,
            help="Also accuracy on a language task: ioi, induction, ..."),
]  # fmt: skip


def unfold(
    out: Output, net: Net, site: Site, folder: Folder = None, basis: Loaded = None, stimuli: Stimuli = None,
    kind: Kind = "topk", latents: Latents = None, k: Active = "32", tokens: Tokens = 20_000, steps: Steps = None,
    seeds: Seeds = 1, transcode: Transcode = False, reads: Reads = None, bypass: Bypass = False, first: First = None,
    measured: Held = 100, compare: Compared = 32, features: Features = 24, twin: Twin = False, task: Task = None,
) -> None:  # fmt: skip
    """Trains a dictionary or transcoder of a site (or loads one) and measures the network that it makes.

    Explained variance, L0, cross-entropy and KL recovered, agreement, on stimuli that were held out, beside random
    directions, principal components and neurons at the same L0; polysemanticity of units before and of latents after.
    """
    from cutaway import pipeline
    from cutaway.bases import evaluation
    from cutaway.bases.evaluation import study
    from cutaway.errors import BadInput
    from cutaway.networks import load

    network = load(net, device=out.shared.device, progress=out.say)
    network.site(site)
    folder = folder or (out.shared.atlas or RUNS / folder_of(network)) / "bases" / site
    if (transcode or reads) and basis is not None:
        raise BadInput("Both --basis and --transcode or --reads were given; a basis says itself what it reads.")
    read, written = _sites(network, site, transcode, reads)
    shown = chosen(network, stimuli) or pipeline.default_stimuli(network)
    if shown is None:
        raise BadInput(f"{network.name} takes tensors, and cutaway has none to show; use cutaway.bases in Python.")
    seed, skip = out.shared.seed, study.default_skip(network) if first is None else first
    place = study.Place(read, written, skip, tokens, seed)
    fit, held = study.split(shown, seed=seed)
    fit, held = study.limited(network, fit, tokens), held.take(measured, seed=seed)
    if basis is not None:
        made = [_opened(network, basis, site)]
        notes: dict[str, Any] = {}
        recipes: list[Any] = [None]
    else:
        widths = _numbers(latents, "--latents") or [8 * _width(network, read)]
        wanted = {"kind": kind, "widths": widths, "ks": _ks(kind, k), "seeds": seeds, "steps": steps, "skip": bypass}
        study.recipes(**wanted, rows=4)  # an impossible one is told before any work
        trained = study.learn(
            network, fit, place, lambda rows: study.recipes(**wanted, rows=rows), folder=folder, progress=out.progress
        )
        made, recipes = [each.dictionary for each in trained], [each.recipe for each in trained]
        notes = {each.dictionary.name: list(each.notes) for each in trained}
    options: dict[str, Any] = {"behaviour": compare, "skip_first": skip, "seed": seed, "progress": out.progress}
    evaluations = []
    for each, recipe in zip(made, recipes):
        other = None
        if twin and recipe is not None:
            other = study.twin_maker(fit, place, recipe, progress=out.progress)
        evaluations.append(evaluation.evaluate(network, each, held, reference=fit, twin=other, **options))
    stable = _stability(network, made, place, held, seed)
    purity = None if not features else _purity(network, made[0], evaluations[0], shown, features, out)
    done = None if task is None else _task(network, made[0], task, skip, seed)
    _finish(out, network, made, evaluations, stable, purity, done, notes, folder)


def _finish(
    out: Output, network: Any, made: list[Any], evaluations: list[Any], stable: Any, purity: Any, done: Any,
    notes: dict[str, Any], folder: Path,
) -> None:  # fmt: skip
    """Prints, and writes what is to be kept."""
    from cutaway.bases.evaluation.drawing import draw_unfolding
    from cutaway.bases.files import write_json
    from cutaway.bases.formats import save
    from cutaway.cli.views.unfold import facts, view

    found = facts(evaluations, stable, purity, done, notes)
    kept = {each.name: str(save(each, folder / each.name, about=_about(each, evaluations, notes))) for each in made}
    values = None if purity is None else purity.values
    label = "polysemanticity (minus likeness z)"
    drawn = draw_unfolding(evaluations, folder / "unfold.png", purity=values, measure=label)
    found |= {"folders": kept, "picture": str(drawn)}
    write_json(folder / "unfold.json", found)
    out.result(found, lambda: view(network, evaluations, stable, purity, done, found), network=network)


def _about(basis: Any, evaluations: list[Any], notes: dict[str, Any]) -> dict[str, Any]:
    own = next(each for each in evaluations if each.basis == basis.name)
    said = {"skip_first": own.skip_first, "stimuli": own.stimuli[0], "notes": notes.get(basis.name, [])}
    return said | {"evaluation": own.own.to_json()}


def _sites(network: Any, site: str, transcode: bool, reads: str | None) -> tuple[str, str]:
    from cutaway.bases.evaluation import study

    if reads is not None:
        return network.site(reads).name, site
    return study.mlp_sites(network, site) if transcode else (site, site)


def _opened(network: Any, basis: str, site: str) -> Any:
    """A named or stored basis that stands for this very site."""
    from cutaway.bases.basis import check_origin
    from cutaway.bases.store import open_basis
    from cutaway.errors import BadInput

    found = open_basis(basis, network)
    if found.origin is None or not found.origin.writes:
        found = open_basis(basis, network, reads=site, writes=site)
    origin = check_origin(found, network)
    if origin.writes != site:
        raise BadInput(f"The basis {found.name!r} stands for {origin.writes}, not for {site}; name that site.")
    return found


def _width(network: Any, site: str) -> int:
    from cutaway.errors import BadInput

    found = network.site(site)
    if found.width is None:
        raise BadInput(f"{site} does not say how wide it is; give --latents.")
    return int(found.width)


def _numbers(text: str | None, option: str) -> list[int]:
    from cutaway.errors import BadInput

    if text is None:
        return []
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise BadInput(f"{option} {text!r} was given; give whole numbers with commas between them, as in 32,64.")
    return [int(part) for part in parts]


def _ks(kind: str, text: str) -> list[int | None]:
    """The numbers of active latents; one None for kinds without a k."""
    from cutaway.bases.dictionaries import DICTIONARIES
    from cutaway.errors import UnknownName

    if kind not in DICTIONARIES:
        raise UnknownName("kind of dictionary", kind, DICTIONARIES, f"The kinds: {', '.join(DICTIONARIES)}.")
    found: list[int | None] = [*_numbers(text, "--k")]
    return found if DICTIONARIES[kind].has_k else [None]


def _stability(network: Any, made: list[Any], place: Any, held: Any, seed: int) -> Any:
    """Agreement of the first size's seeds; None for one seed."""
    from cutaway.bases.evaluation import stability
    from cutaway.bases.evaluation.site_rows import SiteRows, sample

    first = made[0]
    alike = [each for each in made if each.width == first.width and getattr(each, "k", 0) == getattr(first, "k", 0)]
    if len(alike) < 2:
        return None
    sites = (network.site(place.reads), network.site(place.writes))
    acts, _ = sample(SiteRows(network, *sites, held, skip_first=place.skip_first), 4096, seed=seed)
    return stability(alike, acts=acts, seed=seed)


def _purity(network: Any, basis: Any, evaluation: Any, shown: Any, count: int, out: Output) -> Any:
    from cutaway.cli.purity import purity

    skip, seed = evaluation.skip_first, out.shared.seed
    return purity(network, basis, evaluation, shown, count=count, skip_first=skip, seed=seed, progress=out.progress)


def _task(network: Any, basis: Any, name: str, skip: int, seed: int) -> Any:
    from cutaway.bases.unfolding import task_accuracy
    from cutaway.bases.unfolding import unfold as unfolded
    from cutaway.errors import NotTestable
    from cutaway.stimuli.tasks import task

    if network.tokenizer is None:
        raise NotTestable(f"{network.name} is no language model with a tokenizer, so it cannot do {name}.")
    pairs = task(name, network.tokenizer, count=40, split="test", seed=seed)
    return task_accuracy(unfolded(network, basis, skip_first=skip), replace(pairs), seed=seed)
