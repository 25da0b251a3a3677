"""What cutting one edge does: its content replaced for one reader, all after it recomputed.

Four replacements (:data:`~cutaway.networks.compiled.truth.ABLATIONS`): an input's of equal length (up to three donors
each), an input's of the next shorter length at the positions that both have, zero, its own at permuted positions (BOS
stays in front). A true edge may show under none: "one" and BOS send attention to BOS where nothing matches, which is
idle where something always does.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cutaway.errors import BadInput, UnknownName
from cutaway.networks.compiled.module import CompiledTransformer
from cutaway.networks.compiled.parts import Parts, candidate_edges, named_components, run_parts
from cutaway.networks.compiled.spec import NUMERICAL, Spec, Words
from cutaway.networks.compiled.truth import ABLATIONS, SHOWN, Component, Effect, Pair, TrueEdge, Truth
from cutaway.networks.compiled.wiring import on_path, wiring
from cutaway.networks.edits import derangement

DONORS = 3
NUMBER_CHANGED = 0.02
"""A numerical answer counts as changed beyond this."""
VARIES = 1e-4
"""Content that differs by less is the same: sums of floats differ in their last bits."""


@dataclass(frozen=True, eq=False)
class Group:
    """Inputs of one length, run once."""

    ids: Int[Tensor, "batch pos"]
    clean: Parts
    _repeated: dict[int, Tensor] = field(default_factory=dict)

    def clean_logits(self, module: CompiledTransformer, times: int) -> Float[Tensor, "batches pos out"]:
        """The undisturbed logits of this batch ``times`` over, for batches of that size.

        The bits of a matrix product may depend on its size, so like is compared with like.
        """
        if times not in self._repeated:
            self._repeated[times] = run_parts(module, self.ids.repeat(times, 1)).logits
        return self._repeated[times]


@torch.no_grad()
def truth_of(
    module: CompiledTransformer,
    inputs: Iterable[Words],
    *,
    algorithm: Sequence[str] = (),
    seed: int = 0,
) -> Truth:
    """The truth about a compiled network: edges from its weights, what they carry and show from ``inputs``.

    ``inputs`` should hold several inputs of each of several lengths: what an edge carries is told from them. Raises
    ``NotTestable`` for networks with layer norms.
    """
    groups = grouped(module, inputs)
    wired = wiring(module)
    path = on_path(tuple(wired.shared))
    edges = tuple(
        _true_edge(module, groups, pair, dims, pair[0] in path and pair[1].split(".")[0] in path, seed)
        for pair, dims in wired.shared.items()
    )
    false = tuple(pair for pair in candidate_edges(module.spec) if pair not in wired.shared)
    spec = module.spec
    return Truth(spec.name, edges, false, wired.components, spec.computes, tuple(algorithm))


def grouped(module: CompiledTransformer, inputs: Iterable[Words]) -> list[Group]:
    """The inputs by length, shortest first, each run once; the same input twice counts once."""
    encoded = sorted({tuple(module.spec.vocabulary.encode(words)) for words in inputs})
    if not encoded:
        raise BadInput(f"No inputs were given for the truth about {module.spec.name}; give several of each length.")
    lengths = sorted({len(row) for row in encoded})
    batches = [torch.tensor([row for row in encoded if len(row) == length]) for length in lengths]
    device = module.token_embed.weight.device
    return [Group(ids.to(device), run_parts(module, ids.to(device))) for ids in batches]


def effects_of(
    module: CompiledTransformer,
    groups: Sequence[Group],
    pair: Pair,
    *,
    ablations: Sequence[str] = ABLATIONS,
    seed: int = 0,
) -> dict[str, Effect]:
    """The effect of each ablation of one edge on all inputs; all ablations of a group run as one batch."""
    biggest = dict.fromkeys(ablations, 0.0)
    changed = dict.fromkeys(ablations, 0)
    for place, group in enumerate(groups):
        contents = list(_contents(groups, place, pair[0], ablations, seed))
        if not contents:
            continue
        ids = group.ids.repeat(len(contents), 1)
        logits = run_parts(module, ids, {pair: torch.cat([content for _, content in contents])}).logits[:, 1:]
        clean = group.clean_logits(module, len(contents))[:, 1:]
        altered: dict[str, Tensor] = {}
        for (name, _), after, before in zip(contents, logits.chunk(len(contents)), clean.chunk(len(contents))):
            biggest[name] = max(biggest[name], float((after - before).abs().max()))
            differ = _answers_differ(module.spec, after, before)
            altered[name] = altered[name] | differ if name in altered else differ
        for name, differ in altered.items():
            changed[name] += int(differ.sum())
    count = sum(len(group.ids) for group in groups)
    return {name: Effect(biggest[name], changed[name] / count) for name in ablations}


def _answers_differ(spec: Spec, logits: Tensor, before: Tensor) -> Tensor:
    """Which inputs are answered otherwise at some position, [batch]."""
    if spec.output.kind == NUMERICAL:
        return ((logits - before).abs() > NUMBER_CHANGED).flatten(1).any(1)
    return (logits.argmax(-1) != before.argmax(-1)).any(1)


def _contents(
    groups: Sequence[Group], place: int, source: str, ablations: Sequence[str], seed: int
) -> Iterator[tuple[str, Tensor]]:
    """What the source's reader is given instead, by ablation; nothing where no other input can lend."""
    own = groups[place].clean.written[source]
    if "resample" in ablations:
        yield from (("resample", own.roll(shift, 0)) for shift in range(1, min(DONORS, len(own) - 1) + 1))
    if "other_length" in ablations and place > 0:  # the next shorter one
        shorter = groups[place - 1].clean.written[source]
        donors = torch.arange(len(own), device=own.device) % len(shorter)
        yield "other_length", torch.cat([shorter[donors], own[:, shorter.shape[1] :]], 1)
    if "zero" in ablations:
        yield "zero", torch.zeros_like(own)
    if "permute" in ablations and own.shape[1] > 2:
        order = derangement(own.shape[1] - 1, seed).to(own.device) + 1
        yield "permute", torch.cat([own[:, :1], own[:, order]], 1)


def _true_edge(
    module: CompiledTransformer, groups: Sequence[Group], pair: Pair, dims: tuple[int, ...], path: bool, seed: int
) -> TrueEdge:
    labels = module.spec.labels
    names = dict.fromkeys(labels[dim].split(":")[0] for dim in dims) if labels else {}
    edge = TrueEdge(*pair, carried(groups, pair[0], dims), (), path, dims, tuple(names))
    return _measured(edge, effects_of(module, groups, pair, seed=seed))


def _measured(edge: TrueEdge, effects: dict[str, Effect]) -> TrueEdge:
    shown = tuple(name for name, effect in effects.items() if effect.max_logit_change > SHOWN)
    return replace(edge, shows_under=shown, effects=tuple(effects.items()))


@torch.no_grad()
def forced_truth(
    module: CompiledTransformer, edges: Mapping[Pair, str], inputs: Iterable[Words], *, seed: int = 0
) -> Truth:
    """The truth about a network that was trained to have these ``edges`` (and what they carry) and no others.

    Weights say nothing there: every component reads and writes every dimension. Effects are measured on ``inputs``.
    """
    groups = grouped(module, inputs)
    candidates = candidate_edges(module.spec)
    unknown = [pair for pair in edges if pair not in candidates]
    if unknown:
        raise UnknownName("edge", " -> ".join(unknown[0]), [" -> ".join(pair) for pair in candidates])
    path = on_path(tuple(edges))
    found = tuple(
        _measured(TrueEdge(*pair, carries, ()), effects_of(module, groups, pair, seed=seed))
        for pair, carries in edges.items()
    )
    components = tuple(Component(name, kind, True, name in path) for name, kind in named_components(module.spec))
    false = tuple(pair for pair in candidates if pair not in edges)
    return Truth(module.spec.name, found, false, components, module.spec.computes)


def carried(groups: Sequence[Group], source: str, dims: Sequence[int]) -> str:
    """Between what the content of these dimensions varies: one of :data:`~cutaway.networks.compiled.truth.CARRIES`."""
    contents = [group.clean.written[source][..., list(dims)] for group in groups]
    if any(_spread(content, content[:1]) for content in contents):
        return "data"
    longest = contents[-1]
    if any(_spread(content[:1], longest[:1, : content.shape[1]]) for content in contents):
        return "length"
    return "position" if _spread(longest, longest[:, :1]) else "constant"


def _spread(content: Tensor, reference: Tensor) -> bool:
    return float((content - reference).abs().max()) > VARIES
