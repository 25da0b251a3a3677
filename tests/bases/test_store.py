"""Bases by name, and the folders that a name stands for."""

from pathlib import Path

import pytest
import torch

import cutaway
from cutaway.bases import Origin, store
from cutaway.bases.formats import save
from cutaway.bases.store import list_bases, open_basis
from cutaway.errors import BadFile, BadInput, UnknownName
from tests.bases.formats.kinds import D, dictionary


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "shipped"


def network() -> cutaway.Network:
    torch.manual_seed(0)
    return cutaway.wrap(torch.nn.Sequential(torch.nn.Linear(4, D)), name="net", example=torch.zeros(1, 4))


def test_shipped_bases_are_opened_by_the_name_of_their_folder(shipped: Path) -> None:
    save(dictionary("topk"), shipped / "small-topk", about={"l0": 3})
    save(dictionary("relu"), shipped / "small-relu", dtype="int8")
    found = list_bases()
    assert [(each.name, each.type, each.width) for each in found] == [
        ("small-relu", "dictionary", 10), ("small-topk", "dictionary", 10)
    ]  # fmt: skip
    assert found[1].about == {"l0": 3}
    assert found[1].bytes == sum(file.stat().st_size for file in (shipped / "small-topk").iterdir())
    assert open_basis("small-topk").name == "small-topk"
    with pytest.raises(UnknownName, match="did you mean small-topk"):
        open_basis("smal-topk")


def test_those_of_a_network_are_told_apart(shipped: Path) -> None:
    net = network()
    site = net.sites()[0].name
    save(dictionary("topk", origin=Origin("net", net.fingerprint, site, site)), shipped / "own")
    save(dictionary("topk"), shipped / "other")
    assert [each.name for each in list_bases(net)] == ["own"]
    assert open_basis("own", net).origin is not None
    with pytest.raises(BadInput, match="was learned on"):
        open_basis("other", net)


def test_a_path_opens_any_format(tmp_path: Path, shipped: Path) -> None:
    for format in ("cutaway", "saelens", "dictionary_learning", "sparsify"):
        basis = dictionary("topk", name=format)
        save(basis, tmp_path / format, format=format)
        assert open_basis(tmp_path / format).name == format
        assert open_basis(str(tmp_path / format), reads="layers.1.resid", name="mine").name == "mine"
    with pytest.raises(BadFile, match="is no folder"):
        open_basis(str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="without a name"):
        open_basis("")


def test_nothing_shipped_is_an_empty_list(shipped: Path) -> None:
    assert list_bases() == []
    with pytest.raises(UnknownName, match="path of a folder"):
        open_basis("anything")


def test_what_ships_with_the_package_can_be_opened() -> None:
    for each in list_bases():
        basis = open_basis(each.name)
        assert basis.width == each.width
        assert basis.origin is not None
