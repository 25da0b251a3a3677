"""Networks and their graphs, small enough to look through."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

import cutaway
from cutaway.bases import Basis
from cutaway.circuits.tracing.baselines import Baseline, of_nothing, of_prompt, of_text
from cutaway.circuits.tracing.flow import Flow, sweep
from cutaway.circuits.tracing.frozen import Body, Pass, record
from cutaway.circuits.tracing.links import Links, link
from cutaway.circuits.tracing.nodes import Pool, pooled
from cutaway.circuits.tracing.question import Question, ask
from cutaway.networks import Network
from cutaway.networks.compiled.module import CompiledTransformer
from cutaway.networks.compiled.spec import Output, Spec
from tests.networks.tiny import transformer

IDS = torch.tensor([[5, 9, 11, 30, 7]])
OTHER = torch.tensor([[5, 9, 41, 30, 7]])


def random_network(name: str, spread: float = 0.2) -> Network:
    """An architecture with random weights, norms' gains and all biases, too."""
    module = transformer(name)
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, spread)
    return cutaway.wrap(module)


def plain_network(
    layers: int = 1, heads: int = 1, width: int = 4, hidden: int = 0, *, linear: bool = True, norm: bool = False
) -> Network:
    """A causal transformer of random weights; ``linear``: no queries, so that attention is uniform."""
    vocab = ("a", "b", "c", "d", "BOS")
    spec = Spec(
        "plain", vocab, 4, 6, width, layers, heads, 2, hidden, True, Output("categorical", vocab), layer_norm=norm,
        task="causal-lm",
    )  # fmt: skip
    torch.manual_seed(3)
    module = CompiledTransformer(spec).eval()
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, 1.0 if "norm" in name and parameter.ndim == 1 else 0.0, 0.5)
        if linear and ".query." in name:
            nn.init.zeros_(parameter)
    return cutaway.wrap(module, name="plain", tokenizer=spec.vocabulary)


@dataclass(frozen=True, eq=False)
class World:
    """Everything behind a graph, before pruning."""

    body: Body
    question: Question
    seen: Pass
    held: Baseline
    flow: Flow
    pool: Pool
    links: Links
    metric: float

    def index(self, name: str) -> int:
        """A node's place."""
        return self.pool.index[name]

    def edge(self, source: str, target: str) -> float:
        """One edge."""
        return float(self.links.values[self.index(target), self.index(source)])


def world(
    network: Network,
    ids: torch.Tensor,
    target: int = 4,
    against: int | None = 20,
    *,
    baseline: str = "text",
    size: int = 10,
    neurons: int | None = None,
    other: torch.Tensor = OTHER,
    bases: Sequence[Basis] = (),
) -> World:
    """The whole graph of a question, against text, zero or another prompt (``corrupt``)."""
    body = Body.of(network, bases)
    question = ask(network, ids, target, against)
    seen = record(body, question.batch, question.position)
    held = {
        "zero": lambda: of_nothing(seen), "text": lambda: of_text(body, question, count=4),
        "corrupt": lambda: of_prompt(body, question, other),
    }[baseline]()  # fmt: skip
    flow = sweep(body, seen, question, held)
    pool = pooled(body, seen, flow, heads=size, neurons=size if neurons is None else neurons, features=size)
    metric = float(question.read(seen.logits[None])[0])
    links = link(body, seen, flow, pool, held, position=question.position, metric=metric)
    return World(body, question, seen, held, flow, pool, links, metric)
