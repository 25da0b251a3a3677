"""The embedded networks do what independent knowledge says that they do."""

import pytest
import torch

import cutaway

pytestmark = [pytest.mark.zoo, pytest.mark.xdist_group("smollm2")]


@pytest.fixture(scope="module")
def smollm2(zoo) -> cutaway.Network:
    return zoo("smollm2-135m")


def test_capital_of_france(smollm2: cutaway.Network) -> None:
    probability = smollm2.run(["The capital of France is"], logits="last").logits[0, 0].softmax(-1)
    (paris,) = smollm2.tokenizer.encode(" Paris")
    assert probability.argmax() == paris and probability[paris] > 0.5


def test_mary_and_john(smollm2: cutaway.Network) -> None:
    text = "When Mary and John went to the store, John gave a drink to"
    probability = smollm2.run([text], logits="last").logits[0, 0].softmax(-1)
    (mary,) = smollm2.tokenizer.encode(" Mary")
    assert probability.argmax() == mary and probability[mary] > 0.8


def test_logits_are_those_of_transformers_to_the_bit(smollm2: cutaway.Network) -> None:
    batch = smollm2.prepare(["The capital of France is", "Once upon a time there was a"])
    with torch.no_grad():
        bare = smollm2.module(**batch.inputs, use_cache=False).logits
    run = smollm2.run(batch, capture=[site.name for site in smollm2.sites()])
    assert torch.equal(run.logits, bare)


def test_ablating_everything_but_nothing_is_nothing(smollm2: cutaway.Network) -> None:
    text = ["The capital of France is"]
    clean = smollm2.run(text, capture=["layers.10.mlp"], logits="last")
    same = smollm2.run(text, edits=[cutaway.Patch("layers.10.mlp", clean["layers.10.mlp"])], logits="last")
    gone = smollm2.run(text, edits=[cutaway.Ablate("layers.0.mlp", to="zero")], logits="last")
    assert torch.equal(same.logits, clean.logits)
    assert not torch.allclose(gone.logits, clean.logits, atol=1.0)


def test_minilm_ranks_paraphrases_first(zoo) -> None:
    network = zoo("minilm-l6")
    pairs = [
        ("A man is eating food.", "Someone is having a meal."),
        ("The stock market fell sharply today.", "Shares dropped a lot this afternoon."),
        ("How do I reset my password?", "I forgot my login and need a new password."),
        ("The cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ]
    first, second = (network.run([pair[side] for pair in pairs]).logits for side in (0, 1))
    assert torch.equal((first @ second.T).argmax(1), torch.arange(len(pairs)))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(len(pairs)))
