"""Prompts and answers: what is understood, and what is refused in a sentence."""

import dataclasses

import pytest
import torch

import cutaway
from cutaway.circuits.tracing import Budget, trace
from cutaway.circuits.tracing.question import ask, encoded
from cutaway.errors import BadInput, CutawayError, NotTestable, UnknownName
from tests.circuits.tracing.worlds import IDS, plain_network, random_network


class Words:
    """Splits at spaces, which belong to the word behind them; longer words fall into two tokens."""

    bos_token_id, eos_token_id, all_special_ids = 1, 2, (1, 2)

    def __init__(self, front: int | None = 1, behind: int | None = 2) -> None:
        self.front, self.behind, self.known = front, behind, {}

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        pieces = [f" {word}" for word in text.split(" ")]
        pieces[0] = pieces[0][1:]
        cut = [part for piece in pieces if piece for part in (piece[:5], piece[5:]) if part]
        ids = [self.known.setdefault(part, len(self.known) + 3) for part in cut]
        front, behind = ([each] if add_special_tokens and each else [] for each in (self.front, self.behind))
        return [*front, *ids, *behind]

    def decode(self, ids: list[int]) -> str:
        return "".join(text for token in ids for text, number in self.known.items() if number == token) or "?"


def named() -> cutaway.Network:
    return dataclasses.replace(random_network("llama"), tokenizer=Words(), modality="text")


def test_special_tokens_stand_in_front_and_never_behind() -> None:
    assert encoded(named(), "the old cat").tolist() == [[1, 3, 4, 5]]


def test_a_word_is_taken_with_a_space_and_else_as_it_is_written() -> None:
    network = named()
    found = ask(network, "the cat", "sat", "old")
    assert found.names == (" sat", " old") and found.position == 2 and found.last
    assert found.tokens[1:] == ("the", " cat")
    assert ask(network, "the cat", " sat", "<7>").target == found.target
    assert ask(network, "the cat", "sat").against is None
    assert ask(network, "the cat", 9, 8).target == 9
    assert ask(network, "the cat", "sat", position=1).position == 1


def test_the_metric_by_hand() -> None:
    network, logits = named(), torch.tensor([[1.0, 5.0, 0.0, 2.0]], dtype=torch.float64)
    assert dataclasses.replace(ask(network, "the cat", 9, 8), target=1, against=3).read(logits).item() == 3.0
    assert dataclasses.replace(ask(network, "the cat", 9), target=1).read(logits).item() == 3.0  # 5 - mean 2


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"target": "elephants"}, BadInput, "is 2 tokens after this prompt (' elep' + 'hants')"),
        ({"target": ""}, BadInput, "An empty word"),
        ({"target": "<50>"}, BadInput, "Output 50 was asked for; .* has outputs 0 to 49"),
        ({"target": "sat", "against": " sat"}, BadInput, "the same output"),
        ({"target": "sat", "prompt": "the cat "}, BadInput, "'sat' does not continue this prompt"),
        ({}, BadInput, "No target was named"),
        ({"target": "sat", "prompt": ""}, BadInput, "holds no token"),
        ({"target": "sat", "position": 9}, BadInput, "Position 9 was asked for; the prompt has 3 tokens"),
        ({"target": "sat", "corrupt": "the old cat"}, BadInput, "3 tokens and the corrupted one 4"),
        ({"target": "sat", "baseline": "mean"}, UnknownName, "no baseline named 'mean'"),
    ],
)
def test_refused_in_a_sentence(options: dict, error: type[CutawayError], says: str) -> None:
    given = {"prompt": "the cat", "corrupt": "the dog", **options}
    if "baseline" in given:
        del given["corrupt"]
    import re

    with pytest.raises(error, match=re.escape(says).replace(r"\.\*", ".*")):
        trace(named(), given.pop("prompt"), **given)


def test_networks_without_an_answer() -> None:
    for name, says in (("bert", "predicts no next token"), ("gemma2", "norm behind")):
        with pytest.raises(NotTestable, match=says):
            trace(random_network(name), IDS, 4, 20)
    with pytest.raises(BadInput, match="no tokenizer"):
        trace(random_network("llama"), "text", 4)
    broken = random_network("llama")
    with torch.no_grad():
        broken.module.get_parameter("lm_head.weight").fill_(torch.nan)
    with pytest.raises(BadInput, match="not numbers"):
        trace(broken, IDS, 4, 20)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"nodes": 0}, "no nodes"), ({"edge_share": 0.0}, "Shares"), ({"rule": "size"}, "no pruning rule named 'size'")],
)
def test_budgets_that_make_no_graph(options: dict, says: str) -> None:
    with pytest.raises(CutawayError, match=says):
        Budget(**options)


def test_a_program_is_asked_by_its_answers() -> None:
    network = cutaway.load("compiled:reverse")
    found = ask(network, "a b c", "c", "a", position=1)
    assert found.names == ("c", "a") and found.tokens[1:] == ("a", "b", "c") and not found.last
    with pytest.raises(BadInput, match="answers with one of a, b, c, d"):
        ask(network, "a b c", "z")
    traced = trace(network, "a b c", "c", "a", position=1, baseline="zero")
    logits = network.run(network.prepare("a b c")).logits[0, 1].double()
    assert traced.metric == pytest.approx(float(logits[2] - logits[0]), abs=1e-4)
    assert plain_network().tokenizer is not None
