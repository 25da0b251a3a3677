"""Graphs of features: conservation with random dictionaries everywhere, and planted cases."""

import numpy as np
import pytest
import torch

from cutaway.bases import neurons, nonnegative_parts
from cutaway.circuits.tracing import trace
from cutaway.circuits.tracing.features import codes
from cutaway.circuits.tracing.nodes import ABSENT, FEATURE, FEATURES, GATE, HEAD, HEADS, NEURON, NEURONS, RESIDUE, SKIP
from cutaway.errors import BadInput, CutawayError, NotTestable
from cutaway.networks import Network
from tests.circuits.tracing.dictionaries import Small, origin, small
from tests.circuits.tracing.test_flow import check_conserved, marked
from tests.circuits.tracing.worlds import IDS, World, plain_network, random_network, world


def dictionaries(network: Network, which: str) -> list[Small]:
    """One of each sort, at two layers."""
    sites = {
        "transcoder": [{"writes": "layers.0.mlp_out", "reads": "layers.0.mlp_in", "keep": 6}],
        "skip": [{"writes": "layers.1.mlp_out", "reads": "layers.1.mlp_in", "skip": True}],
        "mlp": [
            {"writes": "layers.0.mlp_out", "threshold": 0.05, "size": 0.1}, {"writes": "layers.1.mlp_out", "keep": 5},
        ],
        "attn": [{"writes": "layers.1.attn_out", "size": 0.1}],
        "resid": [{"writes": "layers.0.resid", "keep": 8}],
        "all": [
            {"writes": "layers.0.attn_out", "size": 0.1}, {"writes": "layers.0.mlp_out", "reads": "layers.0.mlp_in"},
            {"writes": "layers.0.resid", "keep": 9}, {"writes": "layers.1.mlp_out", "keep": 7},
            {"writes": "layers.1.resid"},
        ],
    }  # fmt: skip
    return [small(network, **options, seed=seed) for seed, options in enumerate(sites[which])]


@pytest.mark.parametrize("which", ["transcoder", "skip", "mlp", "attn", "resid", "all"])
@pytest.mark.parametrize(("name", "baseline"), [("llama", "zero"), ("gpt2", "text"), ("gpt_neox", "corrupt")])
def test_every_share_comes_in_and_goes_out(name: str, baseline: str, which: str) -> None:
    network = random_network(name)
    found = world(network, IDS, baseline=baseline, size=6, bases=dictionaries(network, which))
    check_conserved(found)
    kinds = {node.kind for node in found.pool.nodes}
    assert {FEATURE, FEATURES, RESIDUE} <= kinds and (SKIP in kinds) == (which == "skip")
    assert ({ABSENT, GATE} <= kinds) == (baseline != "zero")
    assert np.abs(found.links.values[:, marked(found, RESIDUE)]).max() > 1e-3


def shares(found: World, *kinds: str) -> dict[tuple[int | None, int | None], float]:
    """Summed by layer and position."""
    total: dict[tuple[int | None, int | None], float] = {}
    for node in found.pool.nodes:
        if node.kind in kinds:
            total[node.layer, node.position] = total.get((node.layer, node.position), 0.0) + node.value
    return total


@pytest.mark.parametrize("baseline", ["zero", "corrupt"])
@pytest.mark.parametrize("part", ["attn_out", "mlp_out", "resid"])
def test_with_nothing_left_out_all_else_stays_as_it_was(part: str, baseline: str) -> None:
    """Against the graph without a basis: the trivial one has no error, and passes all of its inputs on."""
    network = random_network("gpt2")
    basis = neurons(16, origin(network, f"layers.0.{part}"))
    plain, coded = (world(network, IDS, baseline=baseline, bases=bases) for bases in ((), (basis,)))
    for kinds in ((HEAD, HEADS), (NEURON, NEURONS)):
        one, two = shares(plain, *kinds), shares(coded, *kinds)
        assert one.keys() == two.keys() and all(two[key] == pytest.approx(one[key], abs=1e-6) for key in one)
    assert np.abs(coded.links.values[:, marked(coded, RESIDUE, GATE, ABSENT)]).max() < 1e-5
    written = {"attn_out": (HEAD, HEADS), "mlp_out": (NEURON, NEURONS)}
    if part in written:  # what the site's parts hand on, but for constants, is what its features hold
        own = {key: value for key, value in shares(plain, *written[part]).items() if key[0] == 0}
        total = shares(coded, FEATURE, FEATURES)
        assert baseline == "zero" or all(total[key] == pytest.approx(own[key], abs=1e-5) for key in own)


def itself(network: Network, layer: int) -> Small:
    """A rectified MLP as a transcoder: every neuron is a latent."""
    w = {name: value.detach().double() for name, value in network.module.state_dict().items()}
    up, down = (f"layers.{layer}.mlp.linear_{k}" for k in (1, 2))
    return Small(
        "itself", w[f"{up}.weight"], w[f"{up}.bias"], w[f"{down}.weight"].T, w[f"{down}.bias"],
        torch.zeros(4, dtype=torch.float64), origin(network, f"layers.{layer}.mlp_out", f"layers.{layer}.mlp_in"),
    )  # fmt: skip


@pytest.mark.parametrize("norm", [False, True])
def test_the_mlp_itself_as_a_transcoder_gives_the_graph_of_neurons(norm: bool) -> None:
    network = plain_network(layers=2, hidden=6, norm=norm)
    ids = torch.tensor([[4, 0, 2]])
    bases = [itself(network, layer) for layer in (0, 1)]
    plain = world(network, ids, 1, 3, baseline="zero", size=100)
    coded = world(network, ids, 1, 3, baseline="zero", size=100, bases=bases)

    def renamed(name: str) -> str:
        return name.replace("layers.", "L").replace(".mlp_out@itself:", "N")

    compared = 0
    for target, node in enumerate(coded.pool.nodes):
        for source, other in enumerate(coded.pool.nodes):
            names = renamed(other.name), renamed(node.name)
            if set(names) <= plain.pool.index.keys() and coded.links.values[target, source]:
                assert coded.links.values[target, source] == pytest.approx(plain.edge(*names), abs=1e-6)
                compared += node.kind == FEATURE or other.kind == FEATURE
    assert compared > 20 and any(node.kind == FEATURE and node.layer == 1 for node in coded.pool.nodes)
    assert np.abs(coded.links.values[:, marked(coded, RESIDUE)]).max() < 1e-6


def planted() -> tuple[Network, Small]:
    """Tokens a to d are units 0 to 3; one uniform head writes the mean token into 4 to 7; logits read these."""
    network = plain_network(width=8)
    w = network.module.state_dict()
    with torch.no_grad():
        for name, value in w.items():
            value.zero_()
            if name == "token_embed.weight":
                value[:4, :4] = torch.eye(4)
    head = network.module.get_submodule("layers.0.attn")
    d = w["layers.0.attn.value.weight"].shape[0]  # two numbers to a head: a and b alone get through
    with torch.no_grad():
        head.value.weight[:d, :d] = torch.eye(d)
        head.linear.weight[4 : 4 + d] = torch.eye(d)
        network.module.unembed.weight[:4, 4:] = torch.eye(4)
    network._cache.clear()
    eye, none = torch.eye(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    known = Small("known", eye, none - 0.05, eye, none, none, origin(network, "layers.0.resid"))
    return network, known


def test_a_known_dictionary_gives_the_known_graph() -> None:
    """BOS a b b: the last token's stream holds 1/4 of a, 2/4 of b and its own token; code = amount - 0.05."""
    network, known = planted()
    found = world(network, torch.tensor([[4, 0, 1, 1]]), 1, 0, baseline="zero", size=50, bases=[known])
    assert found.metric == pytest.approx(0.25)

    def name(unit: int) -> str:
        return f"layers.0.resid@known:{unit}@3"

    assert {n.index for n in found.pool.nodes if n.kind == FEATURE and n.position == 3} == {1, 4, 5}
    into = {(name(5), "output"): 0.45, (name(4), "output"): -0.2, (name(1), "output"): 0.0}
    through = {("L0H0@3", name(5)): 0.5, ("L0H0@3", name(4)): -0.25, ("embed@3", name(5)): 0.0}
    paths = {("embed@1", "L0H0@3"): -0.25, ("embed@2", "L0H0@3"): 0.25, ("embed@3", "L0H0@3"): 0.25}
    # What the threshold takes is the basis's own error, and its offset a bias.
    rest = {("layers.0.resid@known.error@3", "output"): 0.0, ("bias", name(5)): -0.05, ("bias", name(4)): 0.05}
    for (source, target), value in {**into, **through, **paths, **rest}.items():
        assert found.edge(source, target) == pytest.approx(value, abs=1e-6), (source, target)
    check_conserved(found)


def test_readings_are_the_rows_of_the_encoder() -> None:
    """edge(token -> feature) = g.d_i W_enc[i].embedding for what TopK keeps; what it drops is no node."""
    network = plain_network(layers=1, hidden=6)
    basis = small(network, "layers.0.resid", keep=3)
    found = world(network, torch.tensor([[4, 0, 2]]), 1, 3, baseline="zero", size=100, bases=[basis])
    w = {name: value.double() for name, value in network.module.state_dict().items()}
    gradient = w["unembed.weight"][1] - w["unembed.weight"][3]
    here = [node for node in found.pool.nodes if node.kind == FEATURE and node.position == 2]
    assert len(here) == 3
    stream = network.run(network.prepare(torch.tensor([[4, 0, 2]])), capture=["layers.0.resid"])["layers.0.resid"][0, 2]
    code = (stream.double() - basis.shift) @ basis.read.T + basis.offset
    assert {node.index for node in here} == set(code.topk(3).indices.tolist())
    for node in here:
        along = float(gradient @ basis.write[node.index])
        assert node.value == pytest.approx(along * float(code[node.index]), abs=1e-5)
        expected = along * float(basis.read[node.index] @ w["token_embed.weight"][2])
        assert found.edge("embed@2", node.name) == pytest.approx(expected, abs=1e-6)


def test_slopes_are_secants_from_the_baseline() -> None:
    """From -1 to 3 a rectifier keeps 3/4 of the way; from 1 to 3 all; below the baseline its own slope, 1."""
    from cutaway.circuits.tracing.features.coded import _secants

    eye = torch.eye(3, dtype=torch.float64)
    zero = torch.zeros(3, dtype=torch.float64)
    basis = Small("relu", eye, zero, eye, zero, zero, None)
    here, usual = torch.tensor([[3.0, 3.0, 1.0]]).double(), torch.tensor([[-1.0, 1.0, 2.0]]).double()
    entries = codes.active(basis, here)
    found = _secants(basis, here, usual, entries.row, entries.latent, entries.value)
    assert found.tolist() == pytest.approx([0.75, 1.0, 1.0])


def test_few_codes_at_a_time_give_the_same_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    network = random_network("gpt2")
    bases = dictionaries(network, "all")
    whole = world(network, IDS, baseline="corrupt", bases=bases).links.values
    monkeypatch.setattr(codes, "MOST_NUMBERS", 50)
    largest = []
    before = Small.encode

    def watched(self: Small, acts: torch.Tensor) -> torch.Tensor:
        largest.append(acts[..., 0].numel() * self.width)
        return before(self, acts)

    monkeypatch.setattr(Small, "encode", watched)
    assert np.allclose(world(network, IDS, baseline="corrupt", bases=bases).links.values, whole, atol=1e-6)
    assert max(largest) <= 50


def named(network: Network, writes: str, reads: str | None = None, **other: object) -> Small:
    import dataclasses

    basis = small(network, "layers.0.resid")
    return dataclasses.replace(basis, origin=origin(network, writes, reads), **other)


def test_refused_in_a_sentence() -> None:
    network, other = random_network("gpt2"), random_network("gpt2", spread=0.3)
    good = small(network, "layers.0.resid")
    wrong = torch.full((24,), torch.inf, dtype=torch.float64)
    cases: list[tuple[list, type[CutawayError], str]] = [
        ([small(other, "layers.0.resid")], BadInput, "was learned on"),
        ([good, small(network, "layers.0.resid", seed=1)], BadInput, "Two bases at layers.0.resid"),
        ([named(network, "layers.0.attn.heads")], NotTestable, "graphs are made of bases at"),
        ([named(network, "layers.0.resid_mid")], NotTestable, "graphs are made of bases at"),
        ([named(network, "layers.1.mlp_out", "layers.0.mlp_in")], NotTestable, "reads layers.0.mlp_in and writes"),
        ([named(network, "layers.0.resid", offset=wrong)], BadInput, "not numbers"),
    ]
    for bases, error, says in cases:
        with pytest.raises(error, match=says):
            trace(network, IDS, 4, 20, bases=bases, test=False)
    parts = nonnegative_parts(torch.rand(40, 16).double(), 4, origin=origin(network, "layers.0.mlp_out"))
    with pytest.raises(CutawayError, match=r"Negative activations|no gradient"):
        trace(network, IDS, 4, 20, bases=[parts], test=False)


@pytest.mark.parametrize("which", ["mlp", "skip", "all"])
def test_what_nodes_write_is_what_lies_at_the_site(which: str) -> None:
    """Here and, against a mean over other prompts, at the baseline."""
    network = random_network("gpt2")
    found = world(network, IDS, baseline="text", size=6, bases=dictionaries(network, which))
    for name, through in found.pool.through.items():
        site = through.coded.place.writes
        own = [number for number, node in enumerate(found.pool.nodes) if node.site == name and node.kind != GATE]
        here, usual = (torch.zeros_like(through.coded.error) + through.coded.bias for _ in range(2))
        for number in own:
            here[found.pool.nodes[number].position] += found.links.outs[number]
            usual[found.pool.nodes[number].position] += found.links.bases[number]
        assert torch.allclose(here, found.seen.coded[site], atol=1e-6)
        mean = torch.stack([each[site] for each in found.held.coded]).mean(0)
        assert torch.allclose(usual, mean, atol=1e-6) and not torch.allclose(usual, here, atol=1e-2)
