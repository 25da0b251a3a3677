"""Every program of the library: the network equals the reference, and the circuit is what its truth says."""

import pytest
import torch

from cutaway.networks.compiled import ABLATIONS, PROGRAMS, compiled, effects_of, grouped, interpret, run_parts
from tests.networks.compiled.helpers import answers

# What a program answers, worked out by hand.
BY_HAND = {
    "reverse": ("a b b c", ["c", "b", "b", "a"]),
    "histogram": ("a b a", [2, 1, 2]),
    "double_histogram": ("a b a c", [1, 2, 1, 2]),
    "most_frequent": ("a b a b c", [True, True, True, True, False]),
    "sort": ("c a b a", ["a", "a", "b", "c"]),
    "dyck1": ("( ( ) x ) ) (", ["P", "P", "P", "P", "T", "F", "F"]),
    "induction": ("a b c a b", ["?", "?", "?", "b", "c"]),
    "previous_token": ("a b c", ["?", "a", "b"]),
    "fraction_of_previous": ("x a b x", [1, 1 / 2, 1 / 3, 1 / 2]),
    "bracket_balance": ("( ) ) x", [1, 0, -1 / 3, -1 / 4]),
    "copy_first": ("b a c", ["b", "b", "b"]),
    "count_of_token": ("x a x", [2, 2, 2]),
    "length": ("a a a", [3, 3, 3]),
}


def test_every_program_has_a_case_by_hand() -> None:
    assert set(BY_HAND) == set(PROGRAMS)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_network_answers_the_case_by_hand(name: str) -> None:
    text, expected = BY_HAND[name]
    assert compiled(name).module.answer(text) == pytest.approx(expected, abs=5e-3)
    assert PROGRAMS[name].reference(text.split()) == pytest.approx(expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_network_equals_the_reference_on_random_inputs(name: str) -> None:
    program, module = PROGRAMS[name], compiled(name).module
    inputs = program.inputs(500, seed=1)
    assert len({len(words) for words in inputs}) == program.max_len
    agrees = module.spec.output.agrees
    for words, found in zip(inputs, answers(module, inputs), strict=True):
        expected = program.reference(words)
        assert all(agrees(a, b) for a, b in zip(found, expected, strict=True)), (words, found, expected)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_operations_mean_what_the_reference_says(name: str) -> None:
    program = PROGRAMS[name]
    for words in program.inputs(100, seed=4):
        meant, expected = interpret(program.op, words, causal=program.causal), program.reference(words)
        assert all(a == pytest.approx(b) if isinstance(b, float) else a == b for a, b in zip(meant, expected)), words


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_false_edge_changes_a_bit_and_none_together(name: str) -> None:
    """All false edges at once, from another input and zeroed; then a few alone under every ablation."""
    module, truth = compiled(name).module, compiled(name).truth
    groups = grouped(module, PROGRAMS[name].inputs(40, seed=2))
    with torch.no_grad():
        for group in groups:
            own = group.clean.written
            for change in (lambda written: written.flip(0), torch.zeros_like):
                replaced = {pair: change(own[pair[0]]) for pair in truth.false_edges}
                assert torch.equal(run_parts(module, group.ids, replaced).logits, group.clean.logits)
        for pair in truth.false_edges[:: max(1, len(truth.false_edges) // 3)]:
            effects = effects_of(module, groups, pair)
            assert all(effect.max_logit_change == 0 for effect in effects.values()), pair


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_truth_is_whole(name: str) -> None:
    truth, spec = compiled(name).truth, compiled(name).module.spec
    assert truth.true_pairs().isdisjoint(truth.false_edges)
    assert all(edge.dims and edge.variables for edge in truth.edges)
    assert "unembed" in truth.circuit and len(truth.algorithm) >= 1
    assert len(spec.labels) == spec.d_model == len(set(spec.labels))
    # What does not differ between inputs of one length cannot show when they are exchanged.
    assert all("resample" not in edge.shows_under for edge in truth.edges if edge.carries != "data")
    assert any(edge.shows_under for edge in truth.edges)
    assert all(set(edge.shows_under) <= set(ABLATIONS) for edge in truth.edges)


def test_the_circuit_of_induction_is_the_known_one() -> None:
    """A head that fetches the token before, a head that looks it up: K-composition and nothing else between them."""
    truth = compiled("induction").truth
    assert {pair for pair in truth.true_pairs() if pair[0] == "L0H0"} == {("L0H0", "L1H0.k")}
    assert truth.edge("L0H0", "L1H0.k").variables == ("before",)
    assert truth.edge("L0H0", "L1H0.k").carries == "data"
    assert {edge.pair for edge in truth.edges if edge.source == "pos_embed"} == {
        ("pos_embed", "L0H0.q"),
        ("pos_embed", "L0H0.k"),
    }
    assert truth.edge("pos_embed", "L0H0.q").carries == "position"
    assert truth.edge("embed", "L1H0.v").variables == ("tokens",)


def test_length_travels_as_length() -> None:
    truth = compiled("reverse").truth
    assert truth.edge("L0H0", "L0MLP").carries == "length"
    assert "resample" not in truth.edge("L0MLP", "L1MLP").shows_under
    assert {"other_length", "zero"} <= set(truth.edge("L0MLP", "L1MLP").shows_under)
