"""Arrays go in and come out unchanged; files that were changed are named and never handed out."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from cutaway.atlas import Atlas, CardRecord
from cutaway.errors import AtlasError, BadInput, DamagedArray

ARRAYS = {
    "f32": torch.arange(6, dtype=torch.float32).view(2, 3),
    "bf16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "flags": torch.tensor([True, False]),
    "one number": torch.tensor(7),
    "nothing": torch.zeros(0, 4),
}


def test_arrays_come_back_as_they_were(tmp_atlas: Atlas) -> None:
    back = tmp_atlas.get_arrays(tmp_atlas.put_arrays(ARRAYS))
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert back[name].dtype == array.dtype
        assert torch.equal(back[name], array)


def test_numpy_arrays_of_any_memory_order_are_stored(tmp_atlas: Atlas) -> None:
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    back = tmp_atlas.get_arrays(tmp_atlas.put_arrays({"turned": array.T, "one": np.array(2.5)}))
    assert np.array_equal(back["turned"].numpy(), array.T)
    assert back["one"].shape == ()


def test_the_name_is_the_hash_of_the_bytes_and_equal_arrays_are_one_file(tmp_atlas: Atlas) -> None:
    first = tmp_atlas.put_arrays({"a": torch.ones(2), "b": torch.zeros(2)})
    second = tmp_atlas.put_arrays({"b": torch.zeros(2), "a": torch.ones(2)})
    assert first == second
    path = tmp_atlas.array_path(first)
    assert path == tmp_atlas.path / "arrays" / first[:2] / f"{first}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_text_cannot_be_stored(tmp_atlas: Atlas) -> None:
    with pytest.raises(BadInput, match=r"Array 'names' of type <U1 cannot be stored; give numbers or booleans\."):
        tmp_atlas.put_arrays({"names": np.array(["a"])})


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (_cut, "is damaged"),
        (_flip, "is damaged"),
        (Path.unlink, "is missing"),
        (_pipe, "is not a regular file"),  # reading it would wait for ever
    ],
)
def test_a_harmed_file_is_named_and_listed(tmp_atlas: Atlas, harm, words: str) -> None:
    array_hash = tmp_atlas.put_arrays(ARRAYS)
    tmp_atlas.cards.put(CardRecord("conv1:0", "card", {}, array_hash))
    assert tmp_atlas.check() == []
    path = tmp_atlas.array_path(array_hash)
    harm(path)
    with pytest.raises(DamagedArray, match=words) as caught:
        tmp_atlas.get_arrays(array_hash)
    assert str(path) in str(caught.value)
    [damage] = tmp_atlas.check()
    assert (damage.hash, damage.path) == (array_hash, path)
    assert words in damage.problem


@pytest.mark.parametrize("harm", [_cut, _flip, Path.unlink])
def test_storing_the_arrays_again_mends_the_file(tmp_atlas: Atlas, harm) -> None:
    array_hash = tmp_atlas.put_arrays(ARRAYS)
    harm(tmp_atlas.array_path(array_hash))
    assert tmp_atlas.put_arrays(ARRAYS) == array_hash
    assert torch.equal(tmp_atlas.get_arrays(array_hash)["f32"], ARRAYS["f32"])


@pytest.mark.parametrize(
    "data",
    [
        b"no safetensors",
        (2**62).to_bytes(8, "little") + b"{}",  # a header of 2^62 bytes
        save({"a": torch.ones(4)})[:-4],  # a tensor beyond the end
        b"",
    ],
)
def test_a_hostile_file_under_its_own_hash_is_damaged_too(tmp_atlas: Atlas, data: bytes) -> None:
    path = tmp_atlas.array_path(hashlib.sha256(data).hexdigest())
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(DamagedArray, match="holds no safetensors data"):
        tmp_atlas.get_arrays(path.stem)


@pytest.mark.parametrize("name", ["../../../etc/passwd", "ab", "", "G" * 64, "A" * 64, "a" * 64 + "\n"])
def test_only_a_hash_is_a_name(tmp_atlas: Atlas, name: str) -> None:
    with pytest.raises(AtlasError, match="64 hex digits"):
        tmp_atlas.get_arrays(name)


def test_what_no_row_refers_to_is_removed_once_it_is_old(tmp_atlas: Atlas) -> None:
    kept, unused = (tmp_atlas.put_arrays({"x": torch.tensor([n])}) for n in (1, 2))
    tmp_atlas.cards.put(CardRecord("conv1:0", "card", {}, kept))
    leftover = tmp_atlas.array_path(kept).with_name(".half.tmp")
    leftover.write_bytes(b"half")
    assert tmp_atlas.remove_unreferenced() == 0, "they are young: a row may be about to name them"
    for path in (tmp_atlas.array_path(kept), tmp_atlas.array_path(unused), leftover):
        os.utime(path, (0, 0))
    assert tmp_atlas.remove_unreferenced() == 2
    assert tmp_atlas.array_path(kept).exists()
    assert not tmp_atlas.array_path(unused).exists()
    assert not leftover.exists()


def test_storing_a_file_that_is_there_makes_it_young_again(tmp_atlas: Atlas) -> None:
    unused = tmp_atlas.put_arrays(ARRAYS)
    os.utime(tmp_atlas.array_path(unused), (0, 0))
    tmp_atlas.put_arrays(ARRAYS)
    assert tmp_atlas.remove_unreferenced() == 0
