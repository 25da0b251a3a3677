"""Logit lens and direct attributions add up to what the network says."""

from collections.abc import Callable

import pytest
import torch

import cutaway
from cutaway.circuits.lens import direct_attribution, logit_lens, neuron_attribution
from cutaway.errors import BadInput, NotTestable
from tests.networks.test_anatomy import IDS, NAMES, made

TARGET, AGAINST = torch.tensor([4, 9]), torch.tensor([7, 2])
CONSERVED = 1e-4
CAUSAL = [name for name in NAMES if name != "bert"]


@pytest.mark.parametrize("name", CAUSAL)
def test_contributions_add_up_to_the_logit_difference(name: str) -> None:
    network = made(name)
    found = direct_attribution(network, IDS, TARGET, AGAINST)
    logits = network.run(IDS, capture=["logits"])["logits"][:, -1]
    expected = logits[torch.arange(2), TARGET] - logits[torch.arange(2), AGAINST]
    torch.testing.assert_close(found.values.sum(1), expected, atol=CONSERVED, rtol=0)
    assert float(found.gap.abs().max()) < CONSERVED
    assert float(found.values[:, found.names.index("error")].abs().max()) < CONSERVED
    alone = direct_attribution(network, IDS, TARGET, position=2)
    own = network.run(IDS, capture=["logits"])["logits"][:, 2]
    torch.testing.assert_close(alone.difference, own[torch.arange(2), TARGET] - own.mean(-1), atol=1e-5, rtol=1e-4)
    assert float(alone.gap.abs().max()) < CONSERVED


@pytest.mark.parametrize("name", CAUSAL)
def test_neurons_add_up_to_their_mlp(name: str) -> None:
    network = made(name)
    whole = direct_attribution(network, IDS, TARGET, AGAINST)
    for layer in (0, 1):
        neurons = neuron_attribution(network, IDS, layer, TARGET, AGAINST)
        expected = whole.values[:, whole.names.index(f"L{layer}MLP")]
        torch.testing.assert_close(neurons.sum(1), expected, atol=CONSERVED, rtol=0)


@pytest.mark.parametrize("name", CAUSAL)
def test_the_last_depth_is_the_networks_answer(name: str) -> None:
    network = made(name)
    lens = logit_lens(network, IDS)
    assert lens.log_probs.shape == (3, 2, 50)
    torch.testing.assert_close(lens.log_probs[-1], network.run(IDS).logits[:, -1].log_softmax(-1), atol=1e-5, rtol=1e-4)
    assert lens.rank(lens.log_probs[-1].argmax(-1))[-1].tolist() == [0, 0]


def test_more_prompts_than_are_taken_apart_at_once() -> None:
    network, ids = made("llama"), torch.randint(3, 50, (11, 4), generator=torch.Generator().manual_seed(2))
    tokens = torch.arange(11)
    together = direct_attribution(network, ids, tokens)
    alone = direct_attribution(network, ids[9:10], tokens[9:10])
    torch.testing.assert_close(together.values[9:10], alone.values, atol=1e-6, rtol=1e-4)
    assert len(together.top(3)) == 3


def test_padding_does_not_move_the_last_token() -> None:
    network = made("llama")
    mask = torch.tensor([[1, 1, 1, 1, 0, 0]])
    padded = network.prepare({"input_ids": IDS[:1], "attention_mask": mask})
    short = direct_attribution(network, IDS[:1, :4], TARGET[:1])
    torch.testing.assert_close(
        direct_attribution(network, padded, TARGET[:1]).values, short.values, atol=1e-5, rtol=1e-4
    )


def test_what_cannot_be_asked() -> None:
    with pytest.raises(NotTestable, match="no unembedding"):
        direct_attribution(made("bert"), IDS, TARGET)
    with pytest.raises(NotTestable, match="no MLP there"):
        neuron_attribution(made("llama"), IDS, 5, TARGET)
    with pytest.raises(BadInput, match="from 0 to 49"):
        direct_attribution(made("llama"), IDS, torch.tensor([4, 50]))
    with pytest.raises(BadInput, match="one for each"):
        direct_attribution(made("llama"), IDS, TARGET[:1])
    with pytest.raises(BadInput, match="has 6 tokens"):
        logit_lens(made("llama"), IDS, position=6)


@pytest.mark.zoo
def test_smollm2_names_paris(zoo: Callable[[str], cutaway.Network]) -> None:
    network = zoo("smollm2-135m")
    paris, london = (torch.tensor(network.tokenizer.encode(word)) for word in (" Paris", " London"))
    found = direct_attribution(network, ["The capital of France is"], paris, london)
    assert float(found.gap.abs().max()) < CONSERVED and float(found.difference) > 0
    assert logit_lens(network, ["The capital of France is"]).rank(paris)[-1].item() == 0
