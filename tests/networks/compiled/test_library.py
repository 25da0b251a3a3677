"""The table of known networks, the trained ones, and the script that made them."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

import cutaway
from cutaway.errors import UnknownName
from cutaway.networks.compiled import (
    PROGRAMS,
    TRAINED,
    CompiledTransformer,
    candidate_edges,
    effects_of,
    ground_truth,
    grouped,
    read_truth,
    run_parts,
    trained,
)
from cutaway.networks.compiled.library import CHECKPOINTS

SCRIPT = Path(__file__).parents[3] / "examples" / "language" / "train" / "train_small_networks.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_small_networks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def module_of(name: str) -> CompiledTransformer:
    module = trained(name).module
    assert isinstance(module, CompiledTransformer)
    return module


def test_one_table_holds_every_known_network() -> None:
    rows = {name: (network, truth, kind) for name, network, truth, kind in ground_truth()}
    assert set(rows) == {*PROGRAMS, *TRAINED}
    assert {kind for _, _, kind in rows.values()} == {"compiled", "forced", "trained"}
    for name, (network, truth, kind) in rows.items():
        assert (truth is None) == (kind == "trained"), name
        assert truth is None or truth.candidates == set(candidate_edges(network.module.spec))
        assert network.source == f"compiled:{name}"


@pytest.mark.data
def test_folders_from_elsewhere_join_the_table(data_dir: Path) -> None:
    given = [row for row in ground_truth(data_dir / "compiled") if row.kind == "given"]
    assert [row.name for row in given] == ["frac_prevs", "hist", "reverse"]
    assert all(row.truth is not None and row.truth.name == row.name for row in given)


def test_trained_networks_load_by_name_and_are_small() -> None:
    assert [cutaway.load(f"compiled:{name}").name for name in TRAINED] == list(TRAINED)
    assert sum(path.stat().st_size for path in CHECKPOINTS.rglob("*") if path.is_file()) < 3_000_000
    with pytest.raises(UnknownName, match="did you mean induction-lm"):
        trained("induction")


def test_the_induction_model_continues_what_repeats(script: ModuleType) -> None:
    module = module_of("induction-lm")
    ids, following = script.repeated(module.spec, 200, torch.Generator().manual_seed(99))
    assert script.accuracy(module, ids, following) > 0.95
    shuffled = ids[:, torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(ids.shape[1] - 1)])]
    assert script.accuracy(module, shuffled, following) < 0.2
    network = trained("induction-lm")
    assert network.task == "causal-lm"
    text = "t4 t9 t1 t30 t17 t4 t9 t1 t30"
    assert network.tokenizer.decode(int(network.run([text], logits="last").logits.argmax())) == "t17"


def test_the_modular_network_adds() -> None:
    network = trained("modular-addition")
    prime = network.module.spec.vocab_size - 2
    pairs = [(a, b) for a in range(prime) for b in range(prime)]
    logits = network.run([f"{a} {b} =" for a, b in pairs], logits="last").logits[:, 0]
    wanted = torch.tensor([(a + b) % prime for a, b in pairs])
    assert float((logits.argmax(-1) == wanted).float().mean()) > 0.99


def test_the_forced_network_computes_by_its_circuit_and_by_nothing_else(script: ModuleType) -> None:
    module, truth = module_of("forced-induction"), read_truth(CHECKPOINTS / "forced-induction")
    ids = script.random_ids(module.spec, 300, torch.Generator().manual_seed(5))
    wanted = script.program(ids, script.preceding(ids))
    assert script.accuracy(module, ids, wanted) > 0.97
    with torch.no_grad():
        lent = run_parts(module, ids.flip(0)).written
        cut = run_parts(module, ids, {pair: lent[pair[0]] for pair in truth.false_edges}).logits
        known = wanted != script.OPEN
        assert float((cut.argmax(-1) == wanted)[known].float().mean()) > 0.95
        for pair in truth.true_pairs("resample"):
            broken = run_parts(module, ids, {pair: lent[pair[0]]}).logits
            assert float((broken.argmax(-1) == wanted)[known].float().mean()) < 0.6, pair


def test_every_true_data_edge_of_the_forced_network_is_stronger_than_every_false_one(script: ModuleType) -> None:
    module, truth = module_of("forced-induction"), read_truth(CHECKPOINTS / "forced-induction")
    ids = script.random_ids(module.spec, 40, torch.Generator().manual_seed(6))
    groups = grouped(module, [module.spec.vocabulary.decode(row[1:]) for row in ids])
    changed = {
        pair: effects_of(module, groups, pair, ablations=["resample"])["resample"].max_logit_change
        for pair in truth.candidates
    }
    true = truth.true_pairs("resample")
    assert {truth.edge(*pair).carries for pair in true} == {"data"}
    assert min(changed[pair] for pair in true) > max(changed[pair] for pair in truth.false_edges)


def test_the_script_trains_and_the_same_seed_gives_the_same_weights(script: ModuleType) -> None:
    for name, (train, _steps) in script.TRAINERS.items():
        one, two, other = ([*train(seed, 3)[0].parameters()] for seed in (0, 0, 1))
        assert all(torch.equal(a, b) for a, b in zip(one, two)), name
        assert not all(torch.equal(a, b) for a, b in zip(one, other)), name


def test_cutting_many_edges_at_once_is_the_plain_way(script: ModuleType) -> None:
    module = module_of("forced-induction")
    generator = torch.Generator().manual_seed(0)
    own, donor = (script.random_ids(module.spec, 6, generator) for _ in range(2))
    lent = run_parts(module, donor).written
    pairs = candidate_edges(module.spec)[::3]
    plain = run_parts(module, own, {pair: lent[pair[0]] for pair in pairs}).logits
    fast = script.run_cut(module, own, lent, {pair: torch.ones(6) for pair in pairs})
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=1e-4)
    assert float((plain - module(own)).abs().max()) > 0.1


def test_the_program_that_is_forced_is_induction(script: ModuleType) -> None:
    ids = torch.tensor([[9, 0, 1, 2, 0, 1, 0]])
    wanted = script.program(ids, script.preceding(ids))
    # a b c a b a: after the second a comes b, after the second b comes c, after the third a came b both times.
    assert wanted.tolist() == [[script.OPEN] * 4 + [1, 2, 1]]
    ids = torch.tensor([[9, 0, 1, 0, 2, 0]])  # a was followed by b and by c: no single answer
    assert script.program(ids, script.preceding(ids)).tolist() == [[script.OPEN] * 3 + [1, script.OPEN, script.OPEN]]


def test_what_was_measured_stands_beside_the_weights() -> None:
    for name in TRAINED:
        record = json.loads((CHECKPOINTS / name / "training.json").read_text())
        assert record["seconds_on_one_core"] < 240
