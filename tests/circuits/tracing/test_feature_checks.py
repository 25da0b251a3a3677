"""Features under intervention: exact where nothing bends, the same as edits by hand elsewhere; attention in pairs."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway.bases.dictionaries import make
from cutaway.circuits.tracing import Budget, Trace, save, trace
from cutaway.circuits.tracing.causal import can_cut, cut_edges, cut_together
from cutaway.circuits.tracing.features.groups import set_features
from cutaway.circuits.tracing.nodes import FEATURE, FEATURES, RESIDUE
from cutaway.circuits.tracing.reasons import Asked, score_pairs, streams_of
from cutaway.circuits.tracing.sets import run_kept
from cutaway.errors import BadInput, UnknownName
from cutaway.networks import Network
from cutaway.networks.folded import head_maps, inverse_scale
from tests.circuits.tracing.dictionaries import origin, small
from tests.circuits.tracing.test_features import dictionaries
from tests.circuits.tracing.test_flow import check_conserved
from tests.circuits.tracing.worlds import IDS, OTHER, World, plain_network, random_network, world

TOKENS = torch.tensor([[4, 0, 2, 1]])


def linear_world(baseline: str = "text") -> World:
    """Every latent of every basis is active whatever happens, so that nothing bends."""
    network = plain_network(layers=2, heads=2)
    bases = [
        small(network, site, width=6, threshold=-100.0, seed=seed)
        for seed, site in enumerate(("layers.0.attn_out", "layers.0.resid", "layers.1.attn_out"))
    ]
    return world(network, TOKENS, 1, 3, baseline=baseline, size=40, bases=bases)


@pytest.mark.parametrize("baseline", ["text", "zero"])
def test_a_linear_network_answers_as_every_edge_says(baseline: str) -> None:
    """Into the last basis and the output: behind earlier ones errors answer as well, which the graph holds."""
    found = linear_world(baseline)
    links = found.links
    last = found.pool.nodes[-1].name
    edges = [
        (int(t), int(s)) for t, s in np.argwhere(links.values)
        if can_cut(found.pool.nodes[s]) and (found.pool.nodes[t].layer == 1 or found.pool.nodes[t].name == last)
        and found.pool.nodes[t].kind in (FEATURE, FEATURES, "output")
    ]  # fmt: skip
    said = np.array([links.values[edge] for edge in edges])
    measured = cut_edges(found.body, found.seen, found.question, links, edges)
    assert np.allclose(measured, said, atol=2e-5 * np.abs(said).max() + 1e-6) and len(edges) > 20
    target = found.index("output")
    sources = [s for t, s in edges if t == target]
    (together,) = cut_together(found.body, found.seen, found.question, links, [(target, sources)])
    assert together == pytest.approx(float(links.values[target, sources].sum()), abs=1e-4)


def test_setting_features_is_steering() -> None:
    network = random_network("llama")
    basis = small(network, "layers.0.resid", keep=8)
    found = world(network, IDS, baseline="corrupt", size=20, bases=[basis])
    own = [number for number, node in enumerate(found.pool.nodes) if node.kind == FEATURE][:4]
    answers = set_features(found.body, found.seen, found.question, found.links, [own, own[:1]], factor=2.5)
    logits = []
    for group in (own, own[:1]):
        steered = torch.zeros(1, 5, 16)
        for number in group:
            node = found.pool.nodes[number]
            coded = found.pool.through[node.site].coded
            (entry,) = found.pool.entries(node).tolist()
            steered[0, node.position] += (1.5 * coded.value[entry] * basis.write[node.index]).float()
        run = network.run(network.prepare(IDS), edits=[_adding("layers.0.resid", steered)])
        logits.append(run.logits[0, -1, 4].double() - run.logits[0, -1, 20])
    assert answers.measured == pytest.approx([found.metric - float(each) for each in logits], abs=1e-5)
    shares = [sum(_whole(found, number) for number in group) for group in (own, own[:1])]
    assert answers.predicted == pytest.approx([-1.5 * each for each in shares], abs=1e-9)
    assert np.abs(answers.measured).max() > 1e-3
    with pytest.raises(BadInput, match="name features"):
        set_features(found.body, found.seen, found.question, found.links, [[found.index("output")]])


def _adding(site: str, added: torch.Tensor):
    from cutaway.networks import Replace

    return Replace(site, lambda value: value + added.to(value))


def _whole(found: World, number: int) -> float:
    through = found.pool.through[found.pool.nodes[number].site]
    entries = found.pool.entries(found.pool.nodes[number])
    return float((through.along[entries] * through.coded.value[entries]).sum())


def test_edges_between_features_say_how_the_target_moves() -> None:
    """One head alone between two bases of a linear network: what an edge says is what happens."""
    found = linear_world("zero")
    kept = list(range(len(found.pool.nodes)))
    one, two = (f"layers.{layer}.{part}" for layer, part in ((0, "resid"), (1, "attn_out")))
    sources = [n for n, node in enumerate(found.pool.nodes) if node.kind == FEATURE and node.site.startswith(one)]
    targets = [n for n, node in enumerate(found.pool.nodes) if node.kind == FEATURE and node.site.startswith(two)]
    answers = set_features(
        found.body, found.seen, found.question, found.links, [[n] for n in sources], watch=targets
    )  # fmt: skip
    through = found.pool.through[found.pool.nodes[targets[0]].site]
    weights = {name: value.double() for name, value in found.body.network.module.state_dict().items()}
    reader = weights["layers.1.attn.linear.weight"] @ weights["layers.1.attn.value.weight"]
    checked = 0
    for row, source in enumerate(sources):
        for column, target in enumerate(targets):
            s, t = found.pool.nodes[source], found.pool.nodes[target]
            moved = found.links.outs[source] @ reader.T / (t.position + 1)
            code = through.coded.place.basis.read[t.index] @ moved if s.position <= t.position else torch.zeros(())
            assert answers.fallen[row, column] == pytest.approx(float(code), abs=1e-5)
            checked += abs(float(code)) > 1e-3
    assert checked > 20 and len(kept) > len(sources)


@pytest.mark.parametrize("which", ["skip", "all"])
def test_keeping_everything_or_nothing(which: str) -> None:
    network = random_network("llama")
    found = world(network, IDS, baseline="corrupt", size=8, bases=dictionaries(network, which))
    everything = [number for number, node in enumerate(found.pool.nodes) if can_cut(node)]

    def run(kept: list[int]):
        return run_kept(found.body, found.seen, found.question, found.pool, found.held.written, kept, draws=2)

    whole, nothing = run(everything), run([])
    corrupt = network.run(network.prepare(OTHER)).logits[0, -1].double()
    assert whole.kept == pytest.approx(found.metric, abs=1e-5)
    assert whole.empty == pytest.approx(float(corrupt[4] - corrupt[20]), abs=1e-5)
    assert nothing.kept == pytest.approx(whole.empty, abs=1e-6) and nothing.without == pytest.approx(
        found.metric, abs=1e-5
    )
    unexplained = [n for n in everything if found.pool.nodes[n].kind != RESIDUE]
    assert abs(run(unexplained).kept - found.metric) > 1e-4  # the bases' errors are missed
    one = next(n for n in everything if found.pool.nodes[n].kind == FEATURE and found.pool.nodes[n].layer == 1)
    fell = set_features(found.body, found.seen, found.question, found.links, [[one]]).measured[0]
    assert found.metric - run([one]).without == pytest.approx(float(fell), abs=1e-5) and abs(fell) > 1e-4


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3"])
def test_attention_scores_are_sums_over_pairs_of_features(name: str) -> None:
    network = random_network(name)
    bases = [small(network, "layers.0.resid", keep=8)]
    found = world(network, IDS, baseline="zero", size=30, bases=bases)
    streams = streams_of(found.body, found.seen, found.question.batch, 1, found.links)
    sites = [f"layers.1.attn.{part}" for part in ("q", "k")]
    run = network.run(network.prepare(IDS), capture=sites)
    q, k = (run[site][0].double() for site in sites)
    k = k.repeat_interleave(len(q) // len(k), 0)
    for head, key in ((0, 1), (3, 4)):
        table = score_pairs(found.body, streams, Asked(1, head, 4, key, 0.0), key)
        assert float(table.values.sum()) == pytest.approx(
            float(k[head, key] @ q[head, 4] * q.shape[-1] ** -0.5), abs=1e-4
        )
        assert float(table.values[table.queries.index("error")].abs().max()) < 1e-4
    if name == "gpt2":  # no positions in the scores: value_a value_b d_a' Omega d_b, by hand
        maps, (scale, other) = (
            head_maps(network, 1),
            inverse_scale(head_maps(network, 1).norm, found.seen.streams[1][[4, 1]]),
        )
        table = score_pairs(found.body, streams, Asked(1, 2, 4, 1, 0.0), 1)
        a = next(n for n in found.pool.nodes if n.kind == FEATURE and n.position == 4)
        b = next(n for n in found.pool.nodes if n.kind == FEATURE and n.position == 1)
        one, two = (found.links.outs[found.index(node.name)] for node in (a, b))
        expected = maps.scale * scale * other * (maps.query[2].double() @ one) @ (maps.key[2].double() @ two)
        names = [node.name.rsplit("@", 1)[0] for node in (a, b)]
        assert float(table.values[table.queries.index(names[0]), table.keys.index(names[1])]) == pytest.approx(
            float(expected), rel=1e-4
        )


@pytest.mark.parametrize("kind", ["relu", "gated", "topk", "batchtopk", "jumprelu", "matryoshka"])
def test_every_kind_of_dictionary(kind: str) -> None:
    network = random_network("gpt2")
    bases = []
    for writes, reads in (("layers.0.resid", None), ("layers.1.mlp_out", "layers.1.mlp_in")):
        basis = make(kind, 16, 40, k=6 if kind in ("topk", "batchtopk", "matryoshka") else None, skip=reads is not None)
        with torch.no_grad():
            for parameter in (basis.b_enc, basis.b_dec):
                parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
            if kind in ("batchtopk", "jumprelu", "matryoshka"):
                basis.threshold.fill_(0.05)
        basis.origin, basis.name = origin(network, writes, reads), kind
        bases.append(basis)
    found = world(network, IDS, baseline="corrupt", size=8, bases=bases)
    check_conserved(found)
    assert any(node.kind == FEATURE for node in found.pool.nodes)
    for through in found.pool.through.values():  # the rows of the encoder, scaled by a gate's magnitude
        coded, basis = through.coded, through.coded.place.basis
        scale = basis.gate_scale.exp() if kind == "gated" else torch.ones(40)
        rows = coded.readings([torch.tensor([0])], torch.ones_like(coded.value))[0] / coded.slope[0]
        expected = scale[coded.latent[0]] * basis.W_enc[coded.latent[0]]
        assert torch.allclose(rows, expected.detach().double(), atol=1e-6)


@pytest.fixture(scope="module")
def network() -> Network:
    return random_network("gpt2")


@pytest.fixture(scope="module")
def found(network: Network) -> Trace:
    plain = trace(
        network, IDS, 4, 20, bases=dictionaries(network, "all"), budget=Budget(pool=20, floor=0.0), test=False
    )
    names = [node.name for node in plain.nodes if node.kind == FEATURE][:3]
    return trace(
        network, IDS, 4, 20, bases=dictionaries(network, "all"), budget=Budget(pool=20, floor=0.0),
        groups={"three": names, "one": names[:1]}, factor=0,
    )  # fmt: skip


def test_a_trace_says_how_its_features_fared(found: Trace) -> None:
    features = [node for node in found.nodes if node.kind == FEATURE]
    assert found.features is not None and len(found.features.singles) == len(features) > 2
    for effect in found.features.singles:
        assert effect.predicted == pytest.approx(found.node(effect.name).value, abs=1e-9)
        assert effect.agrees == (effect.predicted * effect.measured > 0)
    for effect in found.features.joined:
        edges = {edge.source: edge.value for edge in found.into(effect.name)}
        assert effect.predicted == pytest.approx(sum(edges[name] for name in effect.nodes), abs=1e-5)
    assert [effect.name for effect in found.features.groups] == ["three", "one"]
    assert found.features.signs is not None and 0 <= found.features.signs.value <= 1
    assert found.bases == tuple(
        f"layers.{where}@small" for where in ("0.attn_out", "0.mlp_out", "0.resid", "1.mlp_out", "1.resid")
    )
    for move in found.moves:
        assert move.rest == pytest.approx(move.advantage - sum(pair.value for pair in move.pairs))
    behind = [name for move in found.moves if move.layer == 1 for pair in move.pairs for name in (pair.query, pair.key)]
    assert "embed" not in behind and "L0MLP" not in behind  # a basis of the stream stands between


def test_the_strongest_features_are_kept_in_any_case(network: Network) -> None:
    bases = dictionaries(network, "resid")
    some, none = (
        trace(network, IDS, 4, 20, bases=bases, budget=Budget(nodes=12, edges=30, pool=20, features=n), test=False)
        for n in (5, 0)
    )
    whole = world(network, IDS, size=20, bases=bases)
    values = {node.name: abs(node.value) for node in whole.pool.nodes if node.kind == FEATURE}
    kept = {node.name for node in some.nodes if node.kind == FEATURE}
    assert len(kept) >= 5 > sum(node.kind == FEATURE for node in none.nodes)
    for node in (node for node in some.nodes if node.kind == FEATURE):
        assert any(edge.source == node.name for edge in some.edges) and some.into(node.name)
    assert len(values) > len(kept)


def test_documents_and_pictures(found: Trace, network: Network, tmp_path: Path) -> None:
    from rich.console import Console

    from cutaway.cli.views.trace import view

    document = json.loads(save(found, tmp_path / "t.json").read_text(encoding="utf-8"))
    assert len(document["features"]["singles"]) == len(found.features.singles)
    for suffix in ("svg", "html", "dot"):
        text = save(found, tmp_path / f"t.{suffix}").read_text(encoding="utf-8")
        assert all(node.name in text for node in found.nodes if node.kind == FEATURE and suffix != "svg")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view(found))
    said = console.export_text()
    assert "Group set: three (3 features)" in said and "In features: layers.0.attn_out@small" in said
    with pytest.raises(UnknownName, match="feature of the graph"):
        trace(network, IDS, 4, 20, bases=dictionaries(network, "resid"), groups={"x": ["nobody"]}, test=False)
