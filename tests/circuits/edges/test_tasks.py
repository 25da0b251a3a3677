"""From texts to pairs of token ids; what a network cannot do is refused with a number."""

from typing import Any

import pytest
import torch

import cutaway
from cutaway.circuits.edges.pairs import logit_difference
from cutaway.circuits.edges.tasks import check_able, check_finite, prepared, random_pairs, task_accuracy, unique_ids
from cutaway.errors import BadInput, NotTestable
from cutaway.networks.compiled import Vocabulary, named
from cutaway.networks.network import Network
from cutaway.stimuli.tasks import TaskPair, TaskSet
from tests.networks.tiny import transformer

WORDS = ("<bos>", "<pad>", *(f"w{number}" for number in range(48)))


def talker(seed: int = 1) -> Network:
    """A random Llama of 50 words."""
    module = transformer("llama")
    torch.manual_seed(seed)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.ndim == 1 else 0.0, 0.4)
    return cutaway.wrap(module, name="talker", tokenizer=Vocabulary(WORDS, 0, 12, 1))


def able(network: Network, count: int = 8, lengths: tuple[int, ...] = (4, 6)) -> TaskSet:
    """A task that this very network can do: the target is what it ranks first."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        length = lengths[number % len(lengths)]
        words = [f"w{int(each)}" for each in torch.randint(48, (length,), generator=generator)]
        other = [*words[:1], f"w{(int(words[1][1:]) + 5) % 48}", *words[2:]]
        logits = network.run([" ".join(words)], logits="last").logits[0, -1, 2:]
        made.append(
            TaskPair(" ".join(words), " ".join(other), f" w{int(logits.argmax())}", f" w{int(logits.argmin())}")
        )
    return TaskSet("own", "train", "a", tuple(made))


def test_pairs_are_tokens_with_the_special_one_in_front_and_padding_behind() -> None:
    network = talker()
    tasks = able(network)
    pairs = prepared(network, tasks)
    assert pairs.clean.mask is not None
    assert pairs.clean.mask.sum(1).tolist() == [5, 7] * 4
    assert pairs.clean.inputs["input_ids"][:, 0].tolist() == [0] * 8
    first = tasks.pairs[0]
    assert pairs.clean.inputs["input_ids"][0, 1:5].tolist() == [WORDS.index(word) for word in first.clean.split()]
    assert pairs.target is not None
    assert pairs.target[0] == WORDS.index(first.target.strip())
    assert task_accuracy(network, pairs).value == 1.0
    assert check_able(network, pairs).n == 8


def test_what_a_network_cannot_do_is_not_testable_and_says_the_accuracy() -> None:
    network = talker()
    pairs = prepared(network, able(network))
    swapped = type(pairs)(pairs.clean, pairs.corrupt, pairs.against, pairs.target)
    with pytest.raises(NotTestable, match=r"0% of 8 pairs \(95 % interval 0% to"):
        check_able(network, swapped)


def test_unsuitable_tasks_are_refused_in_a_sentence() -> None:
    network = talker()
    tasks = able(network)
    two = TaskPair("w1 w2", "w1 w3", " w4 w5", " w6")
    for broken, text in (
        (TaskSet("own", "train", "a", (*tasks.pairs, two)), "Pair 8.*not exactly one token"),
        (TaskSet("own", "train", "a", tasks.pairs[:3]), "3 pairs"),
        (TaskSet("own", "train", "a", (*tasks.pairs, TaskPair("w1 w2", "w1", " w4", " w6"))), "clean has 2 tokens"),
    ):
        with pytest.raises(BadInput, match=text):
            prepared(network, broken)
    with pytest.raises(NotTestable, match="no language model"):
        prepared(named("sort"), tasks)


def test_weights_that_are_not_numbers_are_named() -> None:
    network: Any = talker()
    pairs = prepared(network, able(network))
    check_finite(talker(), pairs, logit_difference())
    with torch.no_grad():
        network.module.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(BadInput, match=r"layers\.1\.mlp\.down_proj\.weight"):
        check_finite(network, pairs, logit_difference())


def test_random_words_of_a_compiled_network() -> None:
    network = named("sort")
    pairs, again = random_pairs(network, 6), random_pairs(network, 6)
    ids = pairs.clean.inputs["input_ids"]
    assert torch.equal(ids, again.clean.inputs["input_ids"])
    assert not torch.equal(ids, pairs.corrupt.inputs["input_ids"])
    assert ids.shape == (6, 1 + network.tokenizer.max_len)
    assert set(ids[:, 0].tolist()) == {network.tokenizer.bos_token_id}
    assert not set(ids[:, 1:].flatten().tolist()) & set(network.tokenizer.all_special_ids)
    with pytest.raises(BadInput, match="takes 1 to"):
        random_pairs(network, 6, length=99)


def test_repeated_ids_are_told_apart() -> None:
    assert unique_ids(("a", "b", "a", "a")) == ("a", "b", "a#2", "a#3")
