"""The vocabulary behaves like a tokenizer, and outputs are read as they are meant."""

import pytest
import torch

from cutaway.errors import BadInput, UnknownName
from cutaway.networks.compiled import Output, Vocabulary

VOCABULARY = Vocabulary(("a", "b", "<bos>", "<pad>"), bos_token_id=2, max_len=3, pad_id=3)


def test_texts_become_ids_with_bos_in_front_and_padding_behind() -> None:
    batch = VOCABULARY(["a b", "b"], return_tensors="pt")
    assert batch["input_ids"].tolist() == [[2, 0, 1], [2, 1, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert VOCABULARY("a b") == {"input_ids": [2, 0, 1], "attention_mask": [1, 1, 1]}
    assert VOCABULARY(["a", "a b"], padding=False)["input_ids"] == [[2, 0], [2, 0, 1]]
    assert VOCABULARY(["a"], add_special_tokens=False)["input_ids"] == [[0]]


def test_ids_become_texts() -> None:
    assert VOCABULARY.decode([2, 0, 1]) == "<bos> a b"
    assert VOCABULARY.decode(torch.tensor([2, 0, 1]), skip_special_tokens=True) == "a b"
    assert VOCABULARY.decode(1) == "b"
    assert VOCABULARY.convert_ids_to_tokens([0, 3]) == ["a", "<pad>"]
    assert (len(VOCABULARY), VOCABULARY.get_vocab()["b"], VOCABULARY.all_special_ids) == (4, 1, [2, 3])


def test_texts_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"no token named 'z'.*The vocabulary: a b"):
        VOCABULARY("a z")
    with pytest.raises(UnknownName, match="<bos>"):
        VOCABULARY("<bos> a")
    with pytest.raises(BadInput, match="4 tokens was given; this network takes at most 3"):
        VOCABULARY("a a a a")
    with pytest.raises(BadInput, match="without a single token"):
        VOCABULARY(["a", " "])


def test_logits_are_decoded_by_their_kind() -> None:
    assert Output("categorical", (7, "x")).decode(torch.tensor([[0.0, 1.0], [2.0, 1.0]])) == ["x", 7]
    number = Output("numerical", tolerance=0.01)
    assert number.decode(torch.tensor([[0.5]])) == [0.5]
    assert number.agrees(0.5, 0.509) and not number.agrees(0.5, 0.511) and number.agrees(0.5, None)
    assert not Output("categorical", (1, 2)).agrees(1, 2)
