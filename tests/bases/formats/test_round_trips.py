"""Written and read again, a basis gives the same codes, in every format that has its kind."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cutaway.bases import Basis, Origin, neurons, nonnegative_parts, principal_components, random_directions
from cutaway.bases.dictionaries import Dictionary
from cutaway.bases.formats import FORMATS, describe, format_of, load, save
from cutaway.errors import BadInput, UnknownName
from tests.bases.formats.kinds import ACROSS, KINDS, ORIGIN, OUT, acts, dictionary

FOREIGN = [name for name in FORMATS if name != "cutaway"]


def assert_same(found: Basis, wanted: Basis, atol: float = 1e-6) -> None:
    rows = acts()
    assert torch.allclose(found.encode(rows), wanted.encode(rows), atol=atol)
    assert torch.allclose(found.reconstruct(rows), wanted.reconstruct(rows), atol=4 * atol)
    assert (found.name, found.origin, found.width) == (wanted.name, wanted.origin, wanted.width)


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_own_format_keeps_every_bit(tmp_path: Path, kind: str, untied: bool) -> None:
    basis = dictionary(kind, untied=untied)
    found = load(save(basis, tmp_path))
    assert isinstance(found, Dictionary)
    assert (found.kind, found.k, found.tied) == (kind, basis.k, not untied)
    before, after = basis.state_dict(), found.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert_same(found, basis, 0)
    assert not any(part.requires_grad for part in found.parameters())


@pytest.mark.parametrize("kind", ["relu", "jumprelu", "topk", "gated"])
def test_own_format_keeps_transcoders(tmp_path: Path, kind: str) -> None:
    basis = dictionary(kind, d_out=OUT, skip=True, origin=ACROSS)
    assert_same(load(save(basis, tmp_path)), basis, 0)


@pytest.mark.parametrize("untied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["saelens", "dictionary_learning"])
def test_foreign_formats_keep_the_codes_of_every_kind(tmp_path: Path, format: str, kind: str, untied: bool) -> None:
    basis = dictionary(kind, untied=untied)
    found = load(save(basis, tmp_path, format=format))
    assert isinstance(found, Dictionary)
    assert (found.kind, found.k) == (kind, basis.k)
    assert_same(found, basis, 3e-6 if untied else 1e-6)


@pytest.mark.parametrize("transcodes", [False, True])
def test_sparsify_keeps_the_codes_of_topk(tmp_path: Path, transcodes: bool) -> None:
    origin = ACROSS if transcodes else ORIGIN
    basis = dictionary("topk", untied=transcodes, skip=transcodes, origin=origin)
    assert_same(load(save(basis, tmp_path, format="sparsify")), basis, 3e-6 if transcodes else 1e-6)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("kind", ["relu", "jumprelu", "batchtopk"])
def test_saelens_keeps_transcoders(tmp_path: Path, kind: str, skip: bool) -> None:
    basis = dictionary(kind, d_out=OUT, skip=skip, origin=ACROSS)
    found = load(save(basis, tmp_path, format="saelens"))
    assert_same(found, basis, 3e-6)
    said = json.loads((tmp_path / "cfg.json").read_text())
    assert said["architecture"] == ("" if kind == "relu" else "jumprelu_") + ("skip_" if skip else "") + "transcoder"
    assert said["apply_b_dec_to_input"] is False


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_is_recognized_by_its_files(tmp_path: Path, format: str) -> None:
    save(dictionary("topk"), tmp_path, format=format)
    assert format_of(tmp_path) == format


def test_thresholds_that_differ_leave_batchtopk_its_own_class_in_dictionary_learning(tmp_path: Path) -> None:
    basis = dictionary("batchtopk", one_threshold=False)
    found = load(save(basis, tmp_path, format="dictionary_learning"))
    assert json.loads((tmp_path / "config.json").read_text())["trainer"]["dict_class"] == "JumpReluAutoEncoder"
    assert_same(found, basis, 3e-6)


def linear_bases() -> list[Basis]:
    rows = acts()
    pca = principal_components(rows, 4, origin=ORIGIN)
    return [neurons(6, ORIGIN), random_directions(6, 9), pca, pca.keeping(2)]


@pytest.mark.parametrize("which", range(4))
def test_linear_bases_keep_every_bit(tmp_path: Path, which: int) -> None:
    basis = linear_bases()[which]
    assert_same(load(save(basis, tmp_path)), basis, 0)


def test_parts_are_the_same_without_their_pickle(tmp_path: Path) -> None:
    rows = acts().abs()
    basis = nonnegative_parts(rows, 3, origin=ORIGIN)
    found = load(save(basis, tmp_path))
    assert found.name == basis.name
    assert torch.allclose(found.encode(rows), basis.encode(rows), atol=1e-6)
    assert torch.allclose(found.reconstruct(rows), basis.reconstruct(rows), atol=1e-6)


@pytest.mark.parametrize(("dtype", "share"), [("float16", 1e-3), ("bfloat16", 1e-2), ("int8", 2e-2)])
def test_smaller_types_cost_little_and_take_little(tmp_path: Path, dtype: str, share: float) -> None:
    basis = dictionary("relu")
    found = load(save(basis, tmp_path / dtype, dtype=dtype))
    wanted = basis.reconstruct(acts()).detach()
    error = (found.reconstruct(acts()) - wanted).norm() / wanted.norm()
    assert 0 < float(error) < share
    held = load_file(tmp_path / dtype / "basis.safetensors")
    assert str(held["W_enc"].dtype) == f"torch.{dtype}"
    assert held["b_enc"].dtype == (torch.float32 if dtype == "int8" else held["W_enc"].dtype)


def test_int8_by_hand(tmp_path: Path) -> None:
    basis = random_directions(2, 2)
    matrix = torch.tensor([[127.0, -63.6], [0.0, 0.0]])
    object.__setattr__(basis, "write", matrix)
    save(basis, tmp_path, dtype="int8")
    held = load_file(tmp_path / "basis.safetensors")
    assert held["write"].tolist() == [[127, -64], [0, 0]]
    assert held["write.scale"][0].item() == 1.0
    assert load(tmp_path).directions().tolist() == [[127.0, -64.0], [0.0, 0.0]]


def test_what_was_said_about_a_basis_is_kept(tmp_path: Path) -> None:
    save(dictionary("topk"), tmp_path, about={"explained variance": 0.81, "log": ["a", "b"]})
    said = describe(tmp_path)
    assert said["about"] == {"explained variance": 0.81, "log": ["a", "b"]}
    assert said["origin"]["reads"] == ORIGIN.reads
    assert set(said) >= {"format", "version", "made_by", "type", "name", "width", "d_in", "d_out", "sha256"}


def test_what_a_format_has_not_is_said_and_nothing_is_written(tmp_path: Path) -> None:
    cases = [
        (neurons(3), "saelens", "holds dictionaries"),
        (dictionary("topk", d_out=OUT, origin=ACROSS), "saelens", "no topk transcoder"),
        (dictionary("topk", d_out=OUT, origin=ACROSS), "sparsify", "two widths"),
        (dictionary("relu"), "sparsify", "no relu dictionary"),
        (dictionary("relu", skip=True), "dictionary_learning", "no transcoders"),
    ]
    for basis, format, said in cases:
        with pytest.raises(BadInput, match=said):
            save(basis, tmp_path / "new", format=format)
    with pytest.raises(UnknownName, match="saelens"):
        save(neurons(3), tmp_path / "new", format="saelns")
    with pytest.raises(BadInput, match="float32 alone"):
        save(dictionary("relu"), tmp_path / "new", format="saelens", dtype="int8")
    with pytest.raises(BadInput, match="int4"):
        save(neurons(3), tmp_path / "new", dtype="int4")
    with pytest.raises(BadInput, match="no address"):
        save(dictionary("relu", name="a b:c"), tmp_path / "new")
    broken = dictionary("relu")
    broken.W_dec.data[2, 1] = float("inf")
    with pytest.raises(BadInput, match="W_dec of the basis holds NaN or infinite"):
        save(broken, tmp_path / "new")
    large = dictionary("relu")
    large.W_dec.data[2, 1] = 1e6
    with pytest.raises(BadInput, match="too large for float16"):
        save(large, tmp_path / "new", dtype="float16")
    with pytest.raises(BadInput, match="cannot be written"):
        save(neurons(3), tmp_path / "new", about={"when": float("nan")})
    assert not (tmp_path / "new").is_dir() or not list((tmp_path / "new").glob("*.json"))


def test_the_site_can_be_given_where_the_file_has_none(tmp_path: Path) -> None:
    basis = dictionary("relu", origin=None)
    save(basis, tmp_path)
    assert load(tmp_path).origin is None
    named = load(tmp_path, reads="layers.0.resid", name="mine")
    assert (named.origin, named.name) == (Origin("", "", "layers.0.resid", "layers.0.resid"), "mine")
    across = load(tmp_path, reads="layers.0.mlp_in", writes="layers.0.mlp_out").origin
    assert across is not None
    assert (across.reads, across.writes) == ("layers.0.mlp_in", "layers.0.mlp_out")
    with pytest.raises(BadInput, match="give reads= too"):
        load(tmp_path, writes="layers.0.resid")
