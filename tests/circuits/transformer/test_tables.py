"""Streams, scores and likenesses: what they are taken apart into adds up to the network's own number."""

from collections.abc import Callable

import pytest
import torch

import cutaway
from cutaway.circuits.transformer import parts_that_carry, score_table, similarity, stream_parts
from cutaway.errors import BadInput, NotTestable
from cutaway.features.heads import repeated_tokens
from cutaway.networks.compiled import compiled
from tests.networks.test_anatomy import IDS, NAMES, made

CONSERVED = 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_is_the_sum_of_its_parts(name: str) -> None:
    network = made(name)
    stream = stream_parts(network, IDS)
    assert stream.names[:2] == ("embed", "bias") and stream.names[-1] == "error" and "L1H3" in stream.names
    assert stream.relative_error < 1e-5
    torch.testing.assert_close(stream.values, network.run(IDS, capture=["layers.1.resid"])["layers.1.resid"])


def test_a_compiled_program_has_two_embeddings_and_exact_tables() -> None:
    network = compiled("induction").network
    ids = repeated_tokens(network, count=2, length=4).repeated
    stream = stream_parts(network, ids)
    assert stream.names[:4] == ("embed", "pos_embed", "bias", "L0H0") and "L1H0" in stream.names
    assert stream.relative_error < 1e-5
    table = score_table(network, ids, 1, 0, 5, 2)  # the second occurrence looks at what came after the first
    assert abs(table.gap) < CONSERVED and table.attention > 0.95
    query, key, _ = table.top(1)[0]
    assert (query, key) == ("embed", "L0H0"), "this token is matched with what head 0.0 says came before"


def test_an_early_stream_has_only_early_parts() -> None:
    stream = stream_parts(made("llama"), IDS, layer=1)
    assert stream.names == ("embed", "bias", "L0H0", "L0H1", "L0H2", "L0H3", "L0MLP", "error")
    assert stream_parts(made("llama"), IDS, layer=0).names == ("embed", "bias", "error")


def test_an_unknown_addition_to_the_stream_is_an_error_term() -> None:
    network = made("llama")
    network.module.get_submodule("model.layers.0").register_forward_hook(lambda _m, _i, out: out + 1)
    assert stream_parts(network, IDS).relative_error > 0.05


@pytest.mark.parametrize("name", NAMES)
def test_a_score_is_the_sum_over_pairs_of_parts(name: str) -> None:
    network = made(name)
    for layer, head, query, key in ((1, 2, 5, 3), (0, 1, 4, 4)):
        table = score_table(network, IDS, layer, head, query, key, row=1)
        assert abs(table.gap) < CONSERVED
        error = table.values[table.names.index("error")].abs().sum()
        assert float(error) < CONSERVED


def test_the_score_is_the_one_behind_the_pattern() -> None:
    network = made("gpt2")
    scores = [score_table(network, IDS, 1, 0, 4, key).score for key in range(5)]
    pattern = network.run(IDS, capture=["layers.1.attn.pattern"])["layers.1.attn.pattern"][0, 0, 4]
    torch.testing.assert_close(torch.tensor(scores).softmax(0), pattern[:5], atol=1e-5, rtol=1e-4)
    assert score_table(network, IDS, 1, 0, 4, 2).attention == pytest.approx(float(pattern[2]), abs=1e-6)


def test_the_strongest_pairs_and_how_many_carry_the_score() -> None:
    table = score_table(made("llama"), IDS, 1, 2)
    assert (table.query_position, table.key_position) == (5, 0)
    top = table.top(3)
    assert abs(top[0][2]) == pytest.approx(float(table.values.abs().max()))
    assert 1 <= parts_that_carry(table, 0.5) < parts_that_carry(table, 0.99) <= table.values.numel()


def test_a_scaled_stream_is_seen_in_the_error_and_another_scale_refused() -> None:
    network = made("llama")
    network.module.get_submodule("model.layers.1.self_attn").scaling = 0.9
    score_table(network, IDS, 1, 0)  # it says so itself: fine
    network = made("gpt2")
    attention = network.module.get_submodule("transformer.h.1.attn")
    cutaway.circuits.transformer.forms.head_maps(network, 1)  # the maps are known; now the module changes
    attention.scaling = 2.0
    with pytest.raises(NotTestable, match="not the softmax of its scaled scores"):
        score_table(network, IDS, 1, 0)


def test_positions_outside_the_prompt() -> None:
    with pytest.raises(BadInput, match="positions 0 to 5"):
        score_table(made("llama"), IDS, 1, 0, 6, 0)


@pytest.mark.zoo
def test_scores_of_smollm2(zoo: Callable[[str], cutaway.Network]) -> None:
    table = score_table(zoo("smollm2-135m"), ["The cat sat on the mat. The cat"], 18, 6, -1, 3)
    assert abs(table.gap) < CONSERVED
    assert float(table.values[table.names.index("error")].abs().sum()) < CONSERVED * table.values.abs().sum()


@pytest.mark.zoo
def test_why_two_sentences_are_alike(zoo: Callable[[str], cutaway.Network]) -> None:
    network = zoo("minilm-l6")
    first, second = "A man is playing a guitar.", "Someone plays music on an instrument."
    found = similarity(network, first, second)
    one, other = network.run([first]).logits[0], network.run([second]).logits[0]
    assert found.cosine == pytest.approx(float(one @ other), abs=1e-5)
    assert abs(found.gap) < CONSERVED
    assert float(found.by_tokens().sum()) == pytest.approx(found.cosine, abs=CONSERVED)
    assert float(found.by_parts().sum()) == pytest.approx(found.cosine, abs=CONSERVED)
    assert ("playing", "plays") in [pair[:2] for pair in found.top(3)]
    centred = similarity(network, first, second, centre=["The sky is blue.", "I like tea."])
    assert centred.centred is not None and abs(centred.gap) < CONSERVED
    assert centred.centred != pytest.approx(centred.cosine, abs=0.01)


def test_likeness_needs_an_encoder_and_words(zoo: Callable[[str], cutaway.Network]) -> None:
    with pytest.raises(NotTestable, match="not an encoder of sentences"):
        similarity(made("llama"), "a", "b")
    with pytest.raises(BadInput, match="empty sentence"):
        similarity(zoo("minilm-l6"), "a", " ")
