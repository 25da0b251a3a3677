"""Scores of patterns and weights by hand."""

import numpy as np
import pytest
import torch

from cutaway.errors import BadInput, NotTestable
from cutaway.features.heads import (
    attention_at,
    copying,
    copying_score,
    offset_share,
    ordinals,
    repeated_tokens,
    start_attention,
    successor,
)
from cutaway.features.heads.detect import against_shuffled_labels, against_twins, against_unrelated
from cutaway.features.heads.tokens import ordinary_tokens, start_token, word_pieces
from cutaway.features.heads.writes import Ordinals, ordinal_effects
from cutaway.networks.folded import token_embeddings, unembedding
from tests.networks.test_anatomy import made


def one_hot(targets: list[int]) -> torch.Tensor:
    """A pattern in which query i looks at targets[i] only."""
    return torch.nn.functional.one_hot(torch.tensor(targets), len(targets)).float()[None, None]


def test_attention_at_an_offset_by_hand() -> None:
    # [start, a, b, a, b] with T = 2: the second a (3) looks behind the first one (2), the second b at the first b
    pattern = one_hot([0, 0, 0, 2, 2])
    assert float(attention_at(pattern, 1, 3)) == 0.5  # induction: offset T - 1
    assert float(attention_at(pattern, 2, 3)) == 0.5  # duplicate: offset T
    assert float(attention_at(pattern, 1)) == 0.5  # previous token: positions 1 and 3 of 1 to 4
    assert float(attention_at(one_hot([1, 2, 3, 4, 4]), -1, 0)) == 1.0  # next token
    assert float(start_attention(pattern)) == 0.5


def test_the_share_explained_by_the_offset() -> None:
    size = 8
    steady = torch.zeros(size, size)
    for i in range(size):
        steady[i, max(0, i - 2)] = 1.0
    assert float(offset_share(steady[None, None], causal=True)) == pytest.approx(1.0)
    # Half of the queries look one back, half two back: each offset's mean is (nearly) 1/2
    mixed = torch.zeros(size, size)
    for i in range(1, size):
        mixed[i, max(0, i - 1 - i % 2)] = 1.0
    assert 0.1 < float(offset_share(mixed[None, None], causal=True)) < 0.6
    flat = torch.full((1, 1, size, size), 1 / size)
    assert float(offset_share(flat, causal=True)) == 0.0
    noise = torch.rand(1, 1, 60, 60)
    assert float(offset_share(noise, causal=False)) < 0.1


def test_copying_score_by_hand() -> None:
    eye = torch.eye(2)
    assert copying_score(eye, eye, eye) == pytest.approx(1.0)
    assert copying_score(eye, -eye, eye) == pytest.approx(-1.0)
    assert copying_score(eye, torch.tensor([[0.0, 1.0], [-1.0, 0.0]]), eye) == pytest.approx(0.0)  # a turn: +-i
    assert copying_score(eye, torch.diag(torch.tensor([3.0, -1.0])), eye) == pytest.approx(0.5)
    assert copying_score(eye * 0, eye, eye) == 0.0


def test_copying_uses_tokens_against_tokens() -> None:
    """The eigenvalues of the small matrix are the nonzero ones of W_E OV W_U, vocabulary by vocabulary."""
    from cutaway.features.heads.writes import token_product
    from cutaway.networks.folded import head_maps, inverse_scale

    network = made("llama")
    maps, weight, table = head_maps(network, 1), unembedding(network)[0], token_embeddings(network)
    table = table * inverse_scale(maps.norm, table)[:, None]
    whole = table @ maps.value[2].T @ maps.out[2].T @ (weight - weight.mean(0)).T
    eigenvalues = torch.linalg.eigvals(whole.double())
    expected = float(eigenvalues.real.sum() / eigenvalues.abs().sum())
    assert copying_score(maps.value[2], maps.out[2], token_product(network)) == pytest.approx(expected, abs=1e-4)
    scores, null = copying(network, draws=19)
    assert scores.shape == (8,) and null.shape == (19,) and np.abs(null).max() <= 1


class Words:
    """A tokenizer that knows seven days, each as one token from 10 on, and nothing else."""

    is_fast = True
    DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

    def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
        word = text.strip()
        return {"input_ids": [10 + self.DAYS.index(word)] if word in self.DAYS and text[0] == " " else [1, 2]}


def test_a_planted_successor_head() -> None:
    """GPT-2's head 0.0 made to write the next day's unembedding wherever it sees a day."""
    network = made("gpt2")
    network = type(network)(**{**vars(network), "tokenizer": Words()})
    words = ordinals(network)
    assert words is not None and words.ids.tolist() == list(range(10, 17)) and len(words.pairs) == 6
    shares, null = successor(network, words, draws=49)
    assert shares.shape == (8,) and null.shape == (49, 8)
    effects = ordinal_effects(network, words)
    best = effects[3].argmax(-1)
    assert shares[3] == pytest.approx(np.mean([int(best[k]) == k + 1 for k in range(6)]))
    assert abs(null.mean() - 1 / 7) < 0.06  # a shuffled order hits one time in seven


def test_successors_by_hand() -> None:
    from cutaway.features.heads.writes import _hits, _shuffled

    words = Ordinals(torch.arange(4), torch.zeros(4, dtype=torch.long), torch.tensor([[0, 1], [1, 2], [2, 3]]))
    best = torch.tensor([[1, 2, 3, 0], [0, 1, 2, 3], [1, 0, 3, 3]])  # next, itself, two of three
    assert _hits(best, words.pairs).tolist() == [1.0, 0.0, pytest.approx(2 / 3)]
    assert sorted(_shuffled(words, np.random.default_rng(0)).flatten().unique().tolist()) == [0, 1, 2, 3]


def test_a_head_that_repeats_has_p_below_five_percent_and_noise_has_not() -> None:
    rng = np.random.default_rng(0)
    unrelated = rng.random((16, 5)) * 0.1
    repeated = rng.random((16, 5)) * 0.1
    repeated[:, 2] += 0.5
    found = against_unrelated(repeated, unrelated)
    assert found[2].p < 0.05 and found[2].value > 0.5 and found[2].null_mean < 0.1 and found[2].n == 16
    assert min(found[k].p for k in (0, 1, 3, 4)) > 0.05
    assert found[2].low < found[2].value < found[2].high
    assert found == against_unrelated(repeated, unrelated)


def test_against_twins_and_labels_by_hand() -> None:
    found = against_twins(np.array([[0.9, 0.1], [0.7, 0.1]]), np.array([0.1, 0.2, 0.3]))
    assert [each.value for each in found] == [pytest.approx(0.8), pytest.approx(0.1)]
    assert [each.p for each in found] == [0.25, 1.0]  # (1 + 0) / 4, (1 + 3) / 4
    labels = np.tile([True, False, False, False], 20)
    values = np.stack([labels * 1.0, np.random.default_rng(0).random(80)], 1)
    first, second = against_shuffled_labels(values, labels, np.repeat([0, 1], 40))
    assert first.value == 1.0 and first.p == pytest.approx(1 / 200) and second.p > 0.05


def test_repeated_tokens_are_repeated_and_unrelated_ones_are_not() -> None:
    network = made("llama")
    shown = repeated_tokens(network, count=3, length=10, seed=5)
    assert shown.repeated.shape == shown.unrelated.shape == (3, 21)
    assert torch.equal(shown.repeated[:, 1:11], shown.repeated[:, 11:])
    assert torch.equal(shown.repeated[:, 11:], shown.unrelated[:, 11:])
    for row in shown.unrelated[:, 1:]:
        assert len(set(row.tolist())) == 20, "no token twice: nothing is repeated"
    assert torch.equal(shown.repeated, repeated_tokens(network, count=3, length=10, seed=5).repeated)
    assert repeated_tokens(network, count=2, length=1000).length == 25  # 50 tokens, none twice
    assert start_token(network) == 1 and len(ordinary_tokens(network)) == 50
    with pytest.raises(BadInput, match="at least 2"):
        repeated_tokens(network, count=1, length=4)


def test_a_small_vocabulary_is_shown_in_another_order() -> None:
    from cutaway.networks.compiled import compiled

    shown = repeated_tokens(compiled("induction").network, count=3, length=20)
    assert shown.length >= 3 and torch.equal(
        shown.repeated[:, 1 : 1 + shown.length], shown.repeated[:, 1 + shown.length :]
    )
    for repeated, other in zip(shown.repeated, shown.unrelated):
        first, second, moved = repeated[1 : 1 + shown.length], repeated[1 + shown.length :], other[1 : 1 + shown.length]
        assert sorted(moved.tolist()) == sorted(first.tolist())
        assert not (moved == first).any() and not (moved[1:] == first[:-1]).any() and torch.equal(second, first)


def test_a_network_that_is_too_short() -> None:
    network = made("gpt2")
    network.module.config.n_positions = network.module.config.max_position_embeddings = 5
    with pytest.raises(NotTestable, match="three tokens twice are needed"):
        repeated_tokens(network, count=2, length=4)


def test_pieces_of_words() -> None:
    class Fast:
        is_fast = True

        def __call__(self, text: str, **_: object) -> dict[str, list]:
            return {"input_ids": [1, 2, 3, 4], "offset_mapping": [(0, 0), (0, 3), (3, 5), (5, 8)]}

    network = made("llama")
    network = type(network)(**{**vars(network), "tokenizer": Fast()})
    pieces = word_pieces(network, ["tokenize me"[:5] + " me"])
    assert pieces is not None and pieces.continues[0].tolist() == [False, False, True, False]
    assert word_pieces(made("llama"), ["a"]) is None
