"""Neurons of MLPs that follow a simple rule about the token, the one before it, or the place in the text.

A rule is a yes or no for every token (Gurnee et al. 2024, "Universal Neurons in GPT2 Language Models"); a neuron's
score is the correlation of its activation with it. Rules need no parser: they look at spelling and places only. Null:
the rules shifted along the text by a random number of tokens, all neurons and rules together; p counts shifts in which
any neuron follows any rule of the family as closely.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.measure import measure_against_null
from cutaway.evidence.measurement import Measurement
from cutaway.networks.anatomy import anatomy
from cutaway.networks.network import Network
from cutaway.stimuli import builtin_text

SHIFTS = 39
_FEWEST = 5  # tokens for and against a rule, below which a correlation is an anecdote

SPELLING: dict[str, Callable[[str], bool]] = {
    "starts with a space": lambda text: text[:1] == " ",
    "starts with a capital": lambda text: text.strip()[:1].isupper(),
    "all capitals": lambda text: len(text.strip()) > 1 and text.strip().isupper(),
    "starts with a digit": lambda text: text.strip()[:1].isdigit(),
    "punctuation": lambda text: bool(text.strip()) and not any(c.isalnum() for c in text),
    "ends with s": lambda text: len(text.strip()) > 1 and text.rstrip().endswith("s"),
    "ends with ed": lambda text: text.rstrip().endswith("ed"),
    "ends with ing": lambda text: text.rstrip().endswith("ing"),
    "six letters or more": lambda text: len(text.strip()) >= 6 and text.strip().isalpha(),
}
EARLY = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class RuleNeuron:
    """A neuron and the rule that it follows best within a family; ``score`` is a correlation in [-1, 1]."""

    layer: int
    neuron: int
    family: str
    rule: str
    score: Measurement

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return {"layer": self.layer, "neuron": self.neuron, "family": self.family, "rule": self.rule,
                "score": self.score.to_json()}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Rules:
    """Answers of each rule for each token, rules by family."""

    families: tuple[str, ...]
    names: tuple[str, ...]
    holds: Bool[Tensor, "rule token"]


def rule_neurons(
    network: Network, *, texts: Sequence[str] | None = None, count: int = 10, shifts: int = SHIFTS, seed: int = 0
) -> list[RuleNeuron]:
    """The ``count`` neurons of each family that follow a rule most closely.

    Families: ``position``, ``alphabet`` (first letter), ``spelling``, ``previous_token`` (spelling of the token
    before). Raises ``NotTestable`` without MLP neurons or without a tokenizer.
    """
    if network.tokenizer is None or not hasattr(network.tokenizer, "decode"):
        raise NotTestable(f"Rules about tokens were asked for; {network.name} has no tokenizer to spell them.")
    passages = [each.load() for each in builtin_text(count=12, seed=seed)] if texts is None else list(texts)
    activations, spelled, places = neuron_activations(network, passages)
    rules = rules_for(spelled, places)
    return followed(activations, rules, _places(network), count=count, shifts=shifts, seed=seed)


def neuron_activations(
    network: Network, texts: Sequence[str], *, longest: int = 64
) -> tuple[Float[Tensor, "token neuron"], list[list[str]], list[int]]:
    """Hidden units of all MLPs side by side, each text's tokens as spelled, and each token's position."""
    sites = [f"layers.{layer.index}.mlp" for layer in anatomy(network).layers if layer.down is not None]
    if not sites:
        raise NotTestable(f"Neurons were asked for; {network.name} has no MLP.")
    rows, spelled, places = [], [], []
    for text in texts:
        ids = network.prepare([text]).inputs["input_ids"][:, :longest]
        run = network.run(ids, capture=sites, stop_at=sites[-1])
        rows.append(torch.cat([run[site][0] for site in sites], 1).float().cpu())
        spelled.append([network.tokenizer.decode([token]) for token in ids[0].tolist()])
        places += range(ids.shape[1])
    return torch.cat(rows), spelled, places


def rules_for(spelled: Sequence[Sequence[str]], places: Sequence[int]) -> Rules:
    """Every rule's answers; a rule that holds (or fails) for fewer than five tokens is left out."""
    tokens = [token for text in spelled for token in text]
    before = [token for text in spelled for token in ["", *text[:-1]]]
    answers = [("position", f"first {k}", [place < k for place in places]) for k in EARLY]
    answers += [("alphabet", f"starts with {c}", [t.strip().lower()[:1] == c for t in tokens]) for c in ascii_lowercase]
    answers += [("spelling", name, [rule(t) for t in tokens]) for name, rule in SPELLING.items()]
    answers += [("previous_token", name, [rule(t) for t in before]) for name, rule in SPELLING.items()]
    kept = [each for each in answers if _FEWEST <= sum(each[2]) <= len(tokens) - _FEWEST]
    if not kept:
        raise BadInput(f"{len(tokens)} tokens of text were given, too few for any rule about them; give more text.")
    return Rules(
        tuple(each[0] for each in kept), tuple(each[1] for each in kept), torch.tensor([each[2] for each in kept])
    )


def followed(
    activations: Float[Tensor, "token neuron"],
    rules: Rules,
    places: Sequence[tuple[int, int]],
    *,
    count: int = 10,
    shifts: int = SHIFTS,
    seed: int = 0,
) -> list[RuleNeuron]:
    """The neurons that follow a rule of each family most closely; ``places`` are their (layer, neuron)."""
    units = _standard(activations, 0)
    labels = _standard(rules.holds.float(), 1)
    observed = labels @ units
    generator = torch.Generator().manual_seed(seed)
    moves = torch.randint(1, len(units), (shifts,), generator=generator).tolist()
    null = torch.stack([(labels.roll(move, 1) @ units).abs().amax(1) for move in moves])
    found = []
    for family in dict.fromkeys(rules.families):
        members = [k for k, name in enumerate(rules.families) if name == family]
        strength, best = observed[members].abs().max(0)
        largest = null[:, members].amax(1).tolist()
        for unit in strength.argsort(descending=True, stable=True)[:count].tolist():
            rule = members[int(best[unit])]
            size = measure_against_null(float(strength[unit]), largest, n=len(units), alternative="greater", seed=seed)
            signed = Measurement(float(observed[rule, unit]), null_mean=size.null_mean, null_std=size.null_std,
                                 p=size.p, n=size.n, seed=seed)  # fmt: skip
            layer, neuron = places[unit]
            found.append(RuleNeuron(layer, neuron, family, rules.names[rule], signed))
    return found


def _standard(values: Tensor, axis: int) -> Tensor:
    """Mean 0 and length 1 along an axis; constant rows become 0, so that products are correlations."""
    centred = values - values.mean(axis, keepdim=True)
    length = centred.norm(dim=axis, keepdim=True)
    return torch.where(length > 1e-6 * values.abs().amax(axis, keepdim=True), centred / length.clamp(min=1e-30), 0.0)


def _places(network: Network) -> list[tuple[int, int]]:
    layers = [layer for layer in anatomy(network).layers if layer.down is not None]
    widths = [network.site(f"layers.{layer.index}.mlp").width or 0 for layer in layers]
    return [(layer.index, neuron) for layer, width in zip(layers, widths) for neuron in range(width)]
