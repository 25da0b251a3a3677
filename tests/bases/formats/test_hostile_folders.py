"""Folders that are damaged, that lie, or that belong elsewhere: one sentence, and nothing half loaded."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import cutaway
from cutaway.bases import Origin, neurons, nonnegative_parts
from cutaway.bases.files import MOST_JSON_BYTES, sha256_of
from cutaway.bases.formats import load, save
from cutaway.errors import BadFile, BadInput, UnknownName
from cutaway.networks import Network
from tests.bases.formats.kinds import D, dictionary


def refused(folder: Path, said: str) -> None:
    with pytest.raises(BadFile, match=said) as caught:
        load(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(dictionary("batchtopk"), tmp_path / "basis")


def change(folder: Path, **fields: Any) -> None:
    path = folder / "basis.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def replace_tensors(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Other tensors, with a description that vouches for them."""
    save_file(tensors, folder / "basis.safetensors")
    change(folder, sha256=sha256_of(folder / "basis.safetensors"))


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_truncated_tensors(folder: Path, cut: int) -> None:
    path = folder / "basis.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    refused(folder, "does not have the hash")


def test_one_changed_bit(folder: Path) -> None:
    path = folder / "basis.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(folder, "is damaged or of another basis")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"extra": torch.ones(3)}, "holds 'extra', which nothing announced"),
        ({"W_enc": torch.ones(10, 7)}, r"'W_enc' of shape \[10, 7\]"),
        ({"W_enc": torch.ones(10, 6, dtype=torch.int32)}, "in I32 where"),
        ({"W_enc": torch.ones(10, 6, dtype=torch.float64)}, "in F64 where"),
        ({"W_dec": torch.full((10, 6), float("nan"))}, "NaN or infinite numbers in 'W_dec'"),
        ({"threshold": None}, "lacks 'threshold'"),
    ],
)
def test_tensors_that_were_not_announced(folder: Path, tensors: dict[str, Any], said: str) -> None:
    held = load_file(folder / "basis.safetensors") | tensors
    replace_tensors(folder, {name: value for name, value in held.items() if value is not None})
    refused(folder, said)


def test_a_header_that_declares_more_than_the_file_holds(folder: Path) -> None:
    header = json.dumps({"W_enc": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}).encode()
    path = folder / "basis.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")
    change(folder, sha256=sha256_of(path))
    refused(folder, "basis.safetensors")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"version": 2}, "newer cutaway"),
        ({"type": "model"}, "type 'model'"),
        ({"type": ["dictionary"]}, "no short text"),
        ({"width": 2**60}, "no size"),
        ({"width": -3}, "no size"),
        ({"width": True}, "no size"),
        ({"d_in": 1_000_000}, "announced"),
        ({"k": 900}, "k = 900"),
        ({"k": "3"}, "no size"),
        ({"kind": "magic"}, "dictionary kind named 'magic'"),
        ({"kind": "gated"}, "needs gate_bias"),
        ({"tensors": {"W_enc": "float32"}}, "does not list all"),
        ({"tensors": {"__class__": "float32"}}, "which this type has not"),
        ({"tensors": {"W_enc": "object"}}, "which this type has not"),
        ({"tensors": [1]}, "no object"),
        ({"tensors": None}, "does not list all"),
        ({"origin": {"network": "n"}}, "without its sites"),
        ({"origin": 7}, "no object"),
        ({"origin": {"reads": "a", "writes": "b", "seed": "x"}}, "no integer"),
        ({"name": "a" * 2000}, "no short text"),
        ({"sha256": None}, "does not have the hash"),
    ],
)
def test_a_description_that_lies(folder: Path, fields: dict[str, Any], said: str) -> None:
    change(folder, **fields)
    refused(folder, said)


BOMBS = {
    "empty": b"", "null": b"null", "text": b'"text"', "open": b"{", "deep": b"[" * 300_000,
    "infinity": b'{"a": Infinity}', "no-utf8": b"\xff", "long": b" " * (MOST_JSON_BYTES + 1),
    "digits": b'{"width": ' + b"9" * 10_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("name", ["basis.json", "cfg.json"])
def test_bombs_and_noise_for_json(tmp_path: Path, name: str, bomb: str) -> None:
    kind = dictionary("topk")
    where = save(kind, tmp_path / "b", format="cutaway" if name == "basis.json" else "saelens")
    (where / name).write_bytes(BOMBS[bomb])
    refused(where, name)


@pytest.mark.parametrize("format", ["saelens", "sparsify"])
@pytest.mark.parametrize("harm", ["truncated", "extra", "shape", "integers", "nan"])
def test_foreign_safetensors(tmp_path: Path, format: str, harm: str) -> None:
    where = save(dictionary("topk"), tmp_path / "b", format=format)
    path = next(where.glob("*.safetensors"))
    harms: dict[str, tuple[dict[str, torch.Tensor], str]] = {
        "truncated": ({}, "safetensors"),
        "extra": ({"more": torch.ones(1)}, "holds 'more'"),
        "shape": ({"b_dec": torch.ones(D + 1)}, "was announced"),
        "integers": ({"b_dec": torch.ones(D, dtype=torch.int64)}, "in I64"),
        "nan": ({"b_dec": torch.full((D,), float("inf"))}, "NaN or infinite"),
    }
    tensors, said = harms[harm]
    save_file(load_file(path) | tensors, path)
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[:-8])
    refused(where, said)


def test_a_folder_without_a_basis(tmp_path: Path) -> None:
    refused(tmp_path, "holds no basis; give a folder with basis.json")
    (tmp_path / "cfg.json").write_text("{}")
    refused(tmp_path, "holds cfg.json alone")
    refused(tmp_path / "nowhere", "is no folder")


def test_negative_parts(tmp_path: Path) -> None:
    where = save(nonnegative_parts(torch.rand(40, 5), 2), tmp_path / "b")
    replace_tensors(where, {"parts": -torch.ones(2, 5, dtype=torch.float64)})
    refused(where, "negative parts")


# -- whose basis it is -----------------------------------------------------------------------------------------


def network(width: int = D) -> Network:
    torch.manual_seed(0)
    return cutaway.wrap(torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Linear(width, 2)), name="net",
                        example=torch.zeros(1, 4))  # fmt: skip


def site(net: Network) -> str:
    return net.sites()[0].name


def test_a_basis_of_this_network_is_let_in(tmp_path: Path) -> None:
    net = network()
    basis = dictionary("topk", origin=Origin(net.name, net.fingerprint, site(net), site(net)))
    assert load(save(basis, tmp_path), net).origin == basis.origin


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda net: Origin("other", "a" * 64, site(net), site(net)), BadInput, "was learned on other"),
        (lambda net: Origin("net", net.fingerprint, "nowhere", "nowhere"), UnknownName, "site named 'nowhere'"),
        (lambda net: None, BadInput, "names no network and no site"),
    ],
)
def test_a_basis_of_elsewhere_is_refused(
    tmp_path: Path, make: Callable[[Network], Origin | None], error: type[Exception], said: str
) -> None:
    net = network()
    save(dictionary("topk", origin=make(net)), tmp_path)
    with pytest.raises(error, match=said):
        load(tmp_path, net)


def test_widths_that_do_not_match_the_sites_are_refused_on_both_sides(tmp_path: Path) -> None:
    net = network(width=5)
    save(dictionary("topk", origin=None), tmp_path / "sae")
    with pytest.raises(BadInput, match=r"writes vectors of 6 units.*has 5"):
        load(tmp_path / "sae", net, reads=site(net))
    save(dictionary("relu", d_out=2, untied=True, origin=None), tmp_path / "across")
    with pytest.raises(BadInput, match=r"reads vectors of 6 units.*has 5"):
        load(tmp_path / "across", net, reads=site(net), writes=net.sites()[1].name)
    save(neurons(5), tmp_path / "fits")
    assert load(tmp_path / "fits", net, reads=site(net)).width == 5
