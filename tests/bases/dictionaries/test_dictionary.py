"""The class and its kinds: codes by hand, the door, and what is refused."""

from __future__ import annotations

import pytest
import torch

from cutaway.bases import Basis
from cutaway.bases.dictionaries import DICTIONARIES, Dictionary, Recipe, make
from cutaway.bases.dictionaries.kinds.jumprelu import jump
from cutaway.errors import BadInput, CutawayError, UnknownName

KINDS = sorted(DICTIONARIES)
EYE = torch.eye(2)


def build(kind: str, **more: object) -> Dictionary:
    """Latents that read and write the two units."""
    return Dictionary(kind, EYE.clone(), torch.zeros(2), EYE.clone(), torch.zeros(2), **more)  # type: ignore[arg-type]


@torch.no_grad()
def codes(dictionary: Dictionary, *row: float) -> list[float]:
    return [round(code, 4) for code in dictionary.encode(torch.tensor(row).float()).tolist()]


def test_codes_by_hand() -> None:
    assert codes(build("relu"), 2, -1) == [2, 0]
    assert codes(build("topk", k=1), 2, 3) == [0, 3]
    assert codes(build("topk", k=2), 2, -3) == [2, 0]
    assert codes(build("jumprelu", threshold=torch.tensor([2.0, 2.0])), 2, 3) == [0, 3]
    assert codes(build("batchtopk", k=1, threshold=torch.tensor([1.0, 4.0])), 2, 3) == [2, 0]
    gated = build("gated", gate_bias=torch.tensor([-1.0, -5.0]), gate_scale=torch.tensor([2.0, 0.0]).log1p())
    assert codes(gated, 2, 3) == [6, 0]  # scale 3; the second gate stays closed


def test_tied_biases_skip_and_reconstruction_by_hand() -> None:
    tied = Dictionary("relu", EYE.clone(), torch.zeros(2), EYE.clone(), torch.tensor([1.0, 5.0]))
    assert tied.tied and codes(tied, 3, 4) == [2, 0]
    assert tied.reconstruct(torch.tensor([3.0, 4.0])).tolist() == [3, 5]
    skipping = Dictionary(
        "relu", EYE.clone(), torch.zeros(2), torch.zeros(2, 1), torch.ones(1), b_in=torch.zeros(2),
        skip=torch.tensor([[1.0, 2.0]]),
    )  # fmt: skip
    assert skipping.reconstruct(torch.tensor([3.0, 4.0])).tolist() == [12]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_kind_is_a_basis_whose_sparse_codes_are_its_codes(kind: str) -> None:
    dictionary = make(kind, 6, 20, seed=1)
    assert isinstance(dictionary, Basis)
    acts = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    dense = dictionary.encode(acts)
    assert dense.shape == (2, 5, 20) and float(dense.min()) >= 0
    assert torch.allclose(dictionary.sparse(acts).dense(), dense.flatten(0, 1), atol=1e-6)
    assert torch.allclose(dictionary.directions().norm(dim=1), torch.ones(20))
    assert torch.equal(make(kind, 6, 20, seed=1).W_dec, dictionary.W_dec)
    assert not torch.equal(make(kind, 6, 20, seed=2).W_dec, dictionary.W_dec)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transcoder", [False, True])
@torch.no_grad()
def test_folding_a_scale_changes_no_reconstruction(kind: str, transcoder: bool) -> None:
    dictionary = make(kind, 6, 20, 6, skip=transcoder, transcoder=transcoder)
    for seed, parameter in enumerate(dictionary.parameters()):
        parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)).abs()
    scale_out = 4.0 if transcoder else 10.0
    acts = torch.randn(7, 6, generator=torch.Generator().manual_seed(9))
    wanted = dictionary.reconstruct(10 * acts) / scale_out
    before = dictionary.encode(10 * acts)
    dictionary.fold_scale(10.0, scale_out)
    assert torch.allclose(dictionary.reconstruct(acts), wanted, atol=1e-5)
    assert torch.allclose(dictionary.encode(acts), before / scale_out, atol=1e-5)
    assert float(before.max()) > 1


def test_the_estimators_of_jumps_by_hand() -> None:
    z = torch.tensor([[1.0, 3.0, 1.9]], requires_grad=True)
    theta = torch.tensor([2.0, 2.0, 2.0], requires_grad=True)
    code, count = jump(z, theta, 0.5)
    assert code.tolist() == [[0, 3, 0]] and count.tolist() == [[0, 1, 0]]
    by_code = torch.autograd.grad(code.sum(), [z, theta], retain_graph=True)
    assert by_code[0].tolist() == [[0, 1, 0]]
    assert by_code[1].tolist() == [0, 0, -4]  # only 1.9 lies in 2 +- 0.25: -theta / e
    assert torch.autograd.grad(count.sum(), theta)[0].tolist() == [0, 0, -2]


def test_strangers_enter_by_the_same_door() -> None:
    with pytest.raises(UnknownName, match=r"dictionary kind named 'topkk'.*topk"):
        make("topkk", 4, 8)
    with pytest.raises(CutawayError, match="registered already"):
        DICTIONARIES.register("topk")(DICTIONARIES["relu"])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(BadInput, match="k = 9 active latents of 8"):
        make("topk", 4, 8, k=9)
    with pytest.raises(BadInput, match="k = 9 active latents of 8"):
        Recipe(width=8, k=9)
    with pytest.raises(BadInput, match="Rows of 5 units"):
        make("topk", 4, 8).encode(torch.zeros(1, 5))
    with pytest.raises(BadInput, match="needs threshold"):
        build("jumprelu")
    with pytest.raises(BadInput, match="needs k"):
        build("topk")
    with pytest.raises(BadInput, match=r"skip .* has shape \(3, 2\)"):
        build("relu", skip=torch.zeros(3, 2))
    with pytest.raises(BadInput, match="Prefixes"):
        Recipe(prefixes=(0.5, 0.25, 1.0))
    with pytest.raises(BadInput, match="precision"):
        Recipe(precision="fp8")
