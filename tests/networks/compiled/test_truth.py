"""The truth: as given for networks from elsewhere, as worked out by hand for a tiny one, and as a file."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import cutaway
from cutaway.errors import BadFile, BadInput, NotTestable, UnknownName
from cutaway.networks.compiled import CompiledTransformer, TrueEdge, Truth, compiled, forced_truth, read_truth, truth_of
from tests.networks.compiled.helpers import random_module, spec

GIVEN = ("frac_prevs", "hist", "reverse")


@pytest.mark.data
@pytest.mark.parametrize("name", GIVEN)
def test_our_reading_of_the_given_weights_is_their_truth(name: str, data_dir: Path) -> None:
    folder = data_dir / "compiled" / name
    given, raw = read_truth(folder), json.loads((folder / "truth.json").read_text())
    assert len(given.edges) == raw["counts"]["edges_true"]
    assert len(given.candidates) == raw["counts"]["edges_candidate"]
    assert given.component_edges == {tuple(pair) for pair in raw["component_edges"]}
    module = cutaway.load(folder).module
    assert isinstance(module, CompiledTransformer)
    examples = json.loads((folder / "io.json").read_text())["examples"]
    found = truth_of(module, [example["tokens"] for example in examples])
    assert found.true_pairs() == given.true_pairs()
    assert set(found.false_edges) == set(given.false_edges)
    assert [dataclasses.replace(each, effects=()) for each in sorted_edges(found)] == [
        dataclasses.replace(each, effects=()) for each in sorted_edges(given)
    ]
    assert found.components == given.components


def sorted_edges(truth: Truth) -> list[TrueEdge]:
    by_ablation = [dataclasses.replace(edge, shows_under=tuple(sorted(edge.shows_under))) for edge in truth.edges]
    return sorted(by_ablation, key=lambda edge: edge.pair)


def by_hand() -> CompiledTransformer:
    """embed writes 0 and 1; L0H0 copies 0 to 2, led by positions (3); a neuron moves 2 to 4; a dead one reads 1."""
    module = CompiledTransformer(spec(d_model=5, num_layers=1, num_heads=2, key_size=1, mlp_hidden=2))
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        module.token_embed.weight[:3, 0] = torch.tensor([1.0, 2.0, 3.0])
        module.token_embed.weight[:, 1] = 1.0
        module.pos_embed.weight[:, 3] = torch.arange(7.0)
        block = module.layers[0]
        block.attn.query.weight[0, 1] = block.attn.key.weight[0, 3] = 1.0
        block.attn.query.weight[1, 0] = 1.0  # the second head has queries without keys: an unused unit
        block.attn.value.weight[0, 0] = block.attn.linear.weight[2, 0] = 1.0
        block.mlp.linear_1.weight[0, 2] = block.mlp.linear_2.weight[4, 0] = 1.0
        block.mlp.linear_1.weight[1, 1] = 1.0  # a neuron that writes nothing
        module.unembed.weight[0, 4] = 1.0
    return module


def test_the_wiring_of_a_tiny_network_is_the_one_put_in() -> None:
    truth = truth_of(by_hand(), ["a b", "b c", "c a", "a b c", "c"])
    carries = {edge.pair: (edge.carries, edge.dims) for edge in truth.edges}
    assert carries == {
        ("embed", "L0H0.q"): ("constant", (1,)),
        ("pos_embed", "L0H0.k"): ("position", (3,)),
        ("embed", "L0H0.v"): ("data", (0,)),
        ("L0H0", "L0MLP"): ("data", (2,)),
        ("L0MLP", "unembed"): ("data", (4,)),
    }
    assert len(truth.candidates) == 2 * 3 * 2 + 4 + 5
    assert truth.circuit == {"embed", "pos_embed", "L0H0", "L0MLP", "unembed"}
    unused = next(each for each in truth.components if each.name == "L0H1")
    assert not unused.used and not unused.in_circuit
    assert truth.component_edges >= {("embed", "L0H0"), ("pos_embed", "L0H0")}


def test_effects_are_those_worked_out_by_hand() -> None:
    """With the head's pattern flat (no queries), replacing its value by zero takes the mean of the tokens away."""
    module = by_hand()
    with torch.no_grad():
        module.layers[0].attn.query.weight.zero_()
    truth = truth_of(module, ["a c", "c a"])
    assert ("embed", "L0H0.q") in truth.false_edges
    zero = dict(truth.edge("embed", "L0H0.v").effects)["zero"]
    # Causal means over BOS (0) and tokens (1, 3): (0+1)/2, (0+1+3)/3 for one and 3/2, 4/3 for the other.
    assert zero.max_logit_change == pytest.approx(3 / 2)
    resample = dict(truth.edge("embed", "L0H0.v").effects)["resample"]
    assert resample.max_logit_change == pytest.approx(1.0)
    assert truth.edge("embed", "L0H0.v").shows_under == ("resample", "zero", "permute")


def test_a_truth_comes_back_from_its_file(tmp_path: Path) -> None:
    truth = compiled("histogram").truth
    (tmp_path / "truth.json").write_text(json.dumps(truth.to_json()))
    assert read_truth(tmp_path) == truth


def test_what_is_no_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"holds no truth\.json"):
        read_truth(tmp_path)
    for text in ("{", "[]", '{"name": "x"}', '{"name": "x", "edges": [1], "false_edges": []}'):
        (tmp_path / "truth.json").write_text(text)
        with pytest.raises(BadFile, match="does not describe a circuit"):
            read_truth(tmp_path)
    truth = compiled("histogram").truth
    with pytest.raises(BadInput, match="choose resample, other_length, zero, permute"):
        truth.true_pairs("mean")
    with pytest.raises(BadInput, match="no true edge of histogram"):
        truth.edge("embed", "unembed")


def test_weights_say_nothing_where_norms_mix_everything() -> None:
    module = random_module(layer_norm=True)
    with pytest.raises(NotTestable, match="layer norms join every edge"):
        truth_of(module, ["a"])
    with pytest.raises(UnknownName, match=r"no edge named 'embed -> L9H0\.q'"):
        forced_truth(module, {("embed", "L9H0.q"): "data"}, ["a"])
