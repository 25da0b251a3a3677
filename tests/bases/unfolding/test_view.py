"""The same network with codes and errors as sites."""

import dataclasses

import pytest
import torch

from cutaway.bases import from_rows, neurons, to_rows
from cutaway.bases.unfolding import unfold, view
from cutaway.errors import BadInput, UnknownName
from cutaway.evidence import untrained_twin
from cutaway.networks import Ablate, Network, Patch, Steer
from cutaway.networks.network import fingerprint_of
from tests.bases.unfolding.planted import Coder, language, origin, perfect, pictures, rough, texts, vision

TEXT_SITES = ("layers.0.mlp", "layers.0.mlp_out", "layers.0.resid", "layers.1.mlp_in", "embed")


@pytest.mark.parametrize("site", TEXT_SITES)
def test_with_errors_kept_no_bit_changes(site: str) -> None:
    network = language()
    seen = view(network, [rough(network, site)])
    for mode in ("all", "last"):
        assert torch.equal(seen.run(texts(3), logits=mode).logits, network.run(texts(3), logits=mode).logits)
    assert seen.fingerprint == network.fingerprint and seen.name == network.name
    assert f"{site}@rough" not in [each.name for each in network.sites()], "the original was changed"


def test_codes_and_errors_are_what_the_basis_says() -> None:
    network = vision()
    basis = rough(network, "relu")
    seen, batch = view(network, [basis]), network.prepare(pictures(2))
    acts = network.run(batch, capture=["relu"])["relu"]
    run = seen.run(batch, capture=["relu", "relu@rough", "relu@rough.error"])
    rows = to_rows(acts, network.site("relu"))
    wanted = basis.encode(rows)
    assert run["relu@rough"].shape == (2, 24, 8, 8) and seen.site("relu@rough").width == 24
    assert torch.equal(to_rows(run["relu@rough"], seen.site("relu@rough")), wanted)
    error = rows - basis.decode(wanted)
    assert torch.equal(run["relu@rough.error"], from_rows(error, acts, network.site("relu")))
    assert torch.equal(run["relu"], acts)
    stopped = seen.run(batch, capture=["relu@rough"], stop_at=True)
    assert stopped.output is None and torch.equal(stopped["relu@rough"], run["relu@rough"])


def test_removing_one_code_removes_what_it_writes() -> None:
    network = vision()
    basis = rough(network, "relu")
    batch = network.prepare(pictures(2))
    codes = view(network, [basis]).run(batch, capture=["relu@rough"])["relu@rough"]
    edited = view(network, [basis]).run(batch, edits=[Ablate("relu@rough", [3], to="zero")]).logits
    lost = torch.einsum("byx,d->bdyx", codes[:, 3], basis.directions()[3])
    wanted = network.module.late(network.run(batch, capture=["relu"])["relu"] - lost)
    assert float(codes[:, 3].max()) > 0 and torch.allclose(edited, wanted, atol=1e-5)


def test_steering_a_code_is_steering_along_its_direction() -> None:
    network = language()
    basis = perfect(network, "layers.0.resid")
    amount = torch.zeros(16)
    amount[5] = 2.0
    there = view(network, [basis]).run(texts(2), edits=[Steer("layers.0.resid@perfect", amount)]).logits
    here = network.run(texts(2), edits=[Steer("layers.0.resid", amount)]).logits
    mask = network.prepare(texts(2)).mask
    assert mask is not None and torch.allclose(there[mask], here[mask], atol=1e-4)
    assert not torch.allclose(there, network.run(texts(2)).logits, atol=1e-2)


@pytest.mark.parametrize("bypass", [True, False])
def test_a_transcoder_computes_one_site_from_another(bypass: bool) -> None:
    network = language()
    coder = Coder(network, "layers.0.mlp_in", "layers.0.mlp_out", bypass=bypass)
    batch = network.prepare(texts(1))
    run = network.run(batch, capture=["layers.0.mlp_in"])
    wanted = network.run(
        batch, edits=[Patch("layers.0.mlp_out", coder.reconstruct(run["layers.0.mlp_in"].flatten(0, 1))[None])]
    ).logits
    unfolded = unfold(network, coder)
    assert torch.allclose(unfolded.run(batch).logits, wanted, atol=1e-5)
    assert not torch.allclose(wanted, network.run(batch).logits, atol=1e-2)
    assert torch.equal(unfold(network, coder, keep_error=True).run(batch).logits, network.run(batch).logits)
    zeroed = unfolded.run(batch, edits=[Ablate("layers.0.mlp_out@coder", to="zero")], capture=["layers.0.mlp_out"])
    rest = torch.full((16,), 0.5) + (run["layers.0.mlp_in"][0, 2] @ coder.skip if coder.skip is not None else 0)
    assert torch.allclose(zeroed["layers.0.mlp_out"][0, 2], rest, atol=1e-5), "what is left are bias and by-pass"


@pytest.mark.parametrize("side", ["right", "left"])
def test_padding_and_first_tokens_have_no_codes(side: str) -> None:
    network = language(side)
    seen = view(network, [rough(network, "layers.0.resid")], skip_first=2)
    batch = network.prepare(["w5 w6 w7 w8 w9", "w5 w6"])
    run = seen.run(batch, capture=["layers.0.resid@rough", "layers.0.resid@rough.error"])
    active = (run["layers.0.resid@rough"] != 0).any(-1)
    assert batch.mask is not None and torch.equal(active.sum(1), torch.tensor([4, 1]))
    assert torch.equal(active, batch.mask & (batch.mask.cumsum(1) > 2))
    assert not run["layers.0.resid@rough.error"][~active].any()


def test_skipped_tokens_keep_their_value_in_the_unfolded_network() -> None:
    network = language()
    unfolded = unfold(network, rough(network, "layers.0.resid"), skip_first=2)
    batch = network.prepare(texts(2))
    here, there = (each.run(batch, capture=["layers.0.resid"])["layers.0.resid"] for each in (network, unfolded))
    assert torch.equal(here[:, :2], there[:, :2]) and not torch.allclose(here[:, 2:], there[:, 2:], atol=1e-2)


def test_addresses_in_a_basis() -> None:
    network = vision()
    seen = view(network, [rough(network, "relu")])
    assert str(seen.address("relu@rough:23")) == "relu@rough:23", "beyond the five units of the site"
    assert str(seen.address("relu:4")) == "relu:4" and seen.basis_of("relu@rough").name == "rough"
    with pytest.raises(UnknownName, match="rough"):
        seen.address("relu@rogh:1")
    with pytest.raises(BadInput, match="units 0 to 23"):
        seen.address("relu@rough:24")
    with pytest.raises(BadInput, match="holds no codes"):
        seen.basis_of("relu")


def test_gradients_pass_through_codes_and_errors() -> None:
    network = vision()
    run = view(network, [rough(network, "relu")]).run(
        pictures(1), capture=["relu@rough", "relu@rough.error"], grad=True
    )
    into_codes, into_error = torch.autograd.grad(run.logits.sum(), [run["relu@rough"], run["relu@rough.error"]])
    weight = network.module.late.weight[0, :, 0, 0]
    wanted = rough(network, "relu").directions() @ weight
    assert torch.allclose(into_codes[0, :, 2, 2], wanted, atol=1e-6)
    assert torch.allclose(into_error[0, :, 2, 2], weight, atol=1e-6)


def test_a_twin_of_a_view_leaves_the_view_alone() -> None:
    network = vision()
    seen, batch = view(network, [rough(network, "relu")], keep_error=False), network.prepare(pictures(2))
    before = seen.run(batch).logits
    twin = untrained_twin(seen)
    assert not torch.allclose(twin.run(batch).logits, before)
    assert torch.equal(seen.run(batch).logits, before) and fingerprint_of(network.module) == seen.fingerprint


def test_two_bases_at_two_sites() -> None:
    network = language()
    bases = [rough(network, "layers.0.mlp_out"), rough(network, "layers.1.resid", seed=1)]
    unfolded = unfold(network, bases)
    run = unfolded.run(texts(2), capture=unfolded.network.codes_sites)
    assert list(run.captured) == ["layers.0.mlp_out@rough", "layers.1.resid@rough"]


def refused(network: Network) -> list[tuple[object, str]]:
    other = language(seed=1)
    narrow = dataclasses.replace(neurons(5), origin=origin(network, "layers.0.resid"))
    inner = dataclasses.replace(neurons(4), origin=origin(network, "layers.0.attn.pattern"))
    twice = [rough(network, "layers.0.resid"), rough(network, "layers.0.resid", seed=1)]
    apart = [twice[0], rough(network, "layers.0.resid", name="other")]
    backwards = Coder(network, "layers.1.mlp_in", "layers.0.mlp_out")
    return [
        (rough(other, "layers.0.resid"), "was learned on words"),
        (narrow, "vectors of 5 units"),
        (inner, "no vector at a position"),
        (twice, "Two bases|two bases"),
        (apart, "two bases"),
        (backwards, "comes before"),
        ([], "No basis"),
        (neurons(16), "names no network"),
    ]


def test_what_cannot_be_unfolded() -> None:
    network = language()
    for bases, said in refused(network):
        with pytest.raises(BadInput, match=said):
            unfold(network, bases)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="already"):
        view(view(network, [rough(network, "layers.0.resid")]), [rough(network, "layers.1.resid")])
