"""Explained variance, L0 and the rivals of a basis."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from cutaway.bases import Linear, Origin, neurons, principal_components, random_directions, to_rows
from cutaway.bases.evaluation import TWIN, evaluate
from cutaway.bases.evaluation import site_rows as module
from cutaway.bases.evaluation.contenders import Affine, linear_map, rivals
from cutaway.bases.evaluation.reconstruction import reconstructions
from cutaway.bases.evaluation.site_rows import SiteRows, sample
from cutaway.errors import BadInput, NotTestable
from cutaway.evidence.metrics import explained_variance, l0, loss_recovered
from cutaway.networks import Ablate, Network
from tests.bases.unfolding.planted import Coder, language, origin, perfect, pictures, rough, texts, vision


def rows_of(network: Network, site: str, **options: object) -> SiteRows:
    given = texts() if network.modality == "text" else pictures()
    return SiteRows(network, network.site(site), network.site(site), given, **options)  # type: ignore[arg-type]


def all_rows(network: Network, site: str) -> torch.Tensor:
    """Straight from the network, for comparison."""
    found = []
    for each in texts() if network.modality == "text" else pictures():
        batch = network.prepare([each])
        found.append(to_rows(network.run(batch, capture=[site])[site], network.site(site)))
    return torch.cat(found)


def test_scores_are_those_of_the_metrics_library() -> None:
    for network, site in ((language(), "layers.0.resid"), (vision(), "relu")):
        basis, acts = rough(network, site), all_rows(network, site)
        codes = basis.encode(acts)
        (found,) = reconstructions(rows_of(network, site, batch_size=3), {"it": basis}).values()
        wanted = explained_variance(acts.numpy(), basis.decode(codes).numpy())
        assert found.explained_variance.value == pytest.approx(wanted, rel=1e-6)
        assert found.l0.value == pytest.approx(l0(codes.numpy())) and found.rows == len(acts)
        fired = (codes != 0).double().mean(0)
        assert found.dead == pytest.approx(float((fired == 0).double().mean()))
        assert found.dense == pytest.approx(float((fired > 0.1).double().mean()))
        assert found.explained_variance.n == (10 if network.modality == "text" else 6)


@pytest.mark.parametrize("site", ["layers.0.resid", "layers.1.mlp"])
def test_the_mean_predictor_explains_exactly_nothing(site: str) -> None:
    network = language()
    evaluation = evaluate(network, rough(network, site), texts(), behaviour=0, batch_size=3)
    own = evaluation.of("mean").reconstruction.explained_variance
    assert own.value == 0.0, "to the last bit"
    assert evaluation.of("zero").reconstruction.explained_variance.value < 0


def test_rows_far_from_zero_are_no_trap() -> None:
    """The slip of SAELens issue 659: the square of a mean instead of the mean of squares."""
    network = vision("other")
    with torch.no_grad():
        network.module.first.bias += 1000
    moved = dataclasses.replace(network, _cache={})
    acts = all_rows(moved, "relu")
    constant = Linear("c", torch.zeros(5, 1), torch.zeros(1, 5), acts[0], origin(moved, "relu"))
    (found,) = reconstructions(rows_of(moved, "relu"), {"c": constant}).values()
    assert found.explained_variance.value < 0


def test_dead_and_dense_latents_by_hand() -> None:
    network = vision()
    acts = all_rows(network, "relu")
    read = torch.zeros(5, 3)
    read[0, 0] = 1.0
    basis = Linear("three", read, torch.eye(5)[:3], torch.zeros(5), origin(network, "relu"))
    basis = dataclasses.replace(basis, mean=torch.zeros(5), positive=True)
    (found,) = reconstructions(rows_of(network, "relu"), {"three": basis}).values()
    share = float((acts[:, 0] > 0).double().mean())
    assert found.dead == pytest.approx(2 / 3) and share > 0.1 and found.dense == pytest.approx(1 / 3)
    assert found.l0.value == pytest.approx(share)


def test_rows_are_the_same_again_whether_they_are_held_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    network = vision()
    monkeypatch.setattr(module, "MOST_POSITIONS", 7)
    held = rows_of(network, "relu", batch_size=2)
    first, again = [torch.cat([part.x for part in held]) for _ in range(2)]
    monkeypatch.setattr(module, "HELD", 0)
    fresh = rows_of(network, "relu", batch_size=2)
    assert len(first) == 42 and torch.equal(first, again)
    for _ in range(2):
        assert torch.equal(first, torch.cat([part.x for part in fresh]))
    assert not fresh._held and len(held._held) == 3


def test_padding_and_first_tokens_are_left_out() -> None:
    network = language("left")
    parts = list(SiteRows(network, network.site("embed"), network.site("embed"), ["w5 w6 w7", "w8"], skip_first=1))
    assert torch.cat([part.tokens for part in parts if part.tokens is not None]).tolist() == [5, 6, 7, 8]
    assert parts[0].owner.tolist() == [0, 0, 0, 1] and len(set(parts[0].entities)) == 2


def test_a_sample_is_of_all_rows() -> None:
    network = vision()
    whole = all_rows(network, "relu")
    x, y = sample(rows_of(network, "relu", batch_size=2), 50, seed=1)
    assert len(x) == 50 and torch.equal(x, y)
    places = [int((whole - row).square().sum(1).argmin()) for row in x]
    assert torch.allclose(whole[places], x, atol=1e-6) and len(set(places)) == 50
    assert len({place // 64 for place in places}) == 6, "every picture is in it"


def test_values_that_are_not_finite_are_named() -> None:
    network = vision()
    broken = pictures(2)
    broken[1][0, 0, 0] = torch.nan
    with pytest.raises(BadInput, match="Unit 0 of relu is NaN"):
        evaluate(network, rough(network, "relu"), broken)


def test_rivals_have_the_same_l0_and_components_are_the_best_linear_ones() -> None:
    network = language()
    acts = all_rows(network, "layers.0.resid")
    basis = rough(network, "layers.0.resid")
    found = rivals(basis, origin(network, "layers.0.resid"), acts, acts, acts.mean(0), l0=3.2)
    assert list(found) == ["random", "pca", "neurons"] and found["random"].width == 24
    scores = reconstructions(rows_of(network, "layers.0.resid"), found)
    assert all(each.l0.value == 3 for each in scores.values())
    values = {name: each.explained_variance.value for name, each in scores.items()}
    assert values["pca"] > values["neurons"] > 0 and values["pca"] > values["random"] > 0
    plain = dataclasses.replace(principal_components(acts, 3), origin=origin(network, "layers.0.resid"))
    (best_three,) = reconstructions(rows_of(network, "layers.0.resid"), {"3": plain}).values()
    assert values["pca"] >= best_three.explained_variance.value - 1e-6, "any three components beat the first three"


def test_the_linear_map_is_least_squares() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=rng)
    y = x @ torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0]]) + torch.tensor([5.0, -1.0])
    found = linear_map(x, y, Origin("n", "", "a", "b"))
    assert isinstance(found, Affine) and torch.allclose(found.reconstruct(x), y, atol=1e-3)


def test_evaluation_of_a_language_model() -> None:
    network = language()
    basis = rough(network, "layers.1.resid")

    def again(other: Network) -> Linear:
        return rough(other, "layers.1.resid")

    found = evaluate(network, basis, texts(), reference=texts(14)[10:], twin=again, skip_first=1, concepts=())
    names = ["rough", "random", "pca", "neurons", "mean", "zero", TWIN]
    assert [each.name for each in found.scores] == names and found.own.name == "rough"
    assert found.own.recovered is not None and found.of("mean").recovered is None
    own, mean, zero = (found.of(name).behaviour for name in ("rough", "mean", "zero"))
    assert own is not None and mean is not None and zero is not None
    assert own.loss is not None and own.loss_original is not None and mean.loss is not None and zero.kl is not None
    wanted = loss_recovered(clean=own.loss_original.value, reconstructed=own.loss.value, ablated=mean.loss.value)
    assert found.own.recovered.loss_mean is not None and found.own.recovered.kl_zero is not None and own.kl is not None
    assert found.own.recovered.loss_mean.value == pytest.approx(wanted)
    assert found.own.recovered.kl_zero.value == pytest.approx(1 - own.kl.value / zero.kl.value)
    assert found.of(TWIN).behaviour is None and found.of(TWIN).reconstruction.explained_variance.n == 10
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["scores"][0]["name"] == "rough" and document["skip_first"] == 1
    again_found = evaluate(network, basis, texts(), reference=texts(14)[10:], skip_first=1, concepts=())
    assert again_found.to_json()["scores"] == document["scores"][:-1]


def test_zero_ablation_is_ablation_to_zero() -> None:
    network = language()
    found = evaluate(network, rough(network, "layers.1.mlp_out"), texts(4), concepts=())
    losses = []
    for text in texts(4):
        batch = network.prepare([text])
        logits = network.run(batch, edits=[Ablate("layers.1.mlp_out", to="zero")]).logits[0]
        ids = batch.inputs["input_ids"][0]
        losses.append(-logits.log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]])
    zero = found.of("zero").behaviour
    assert zero is not None and zero.loss is not None
    assert zero.loss.value == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_a_perfect_basis_recovers_everything() -> None:
    network = language()
    found = evaluate(network, perfect(network, "layers.1.resid"), texts(), concepts=()).own
    assert found.recovered is not None and found.recovered.kl_mean is not None
    assert found.recovered.kl_mean.value == pytest.approx(1, abs=1e-6)
    assert found.reconstruction.explained_variance.value == 1


def test_a_transcoder_is_held_against_a_linear_map_too() -> None:
    network = language()
    coder = Coder(network, "layers.0.mlp_in", "layers.0.mlp_out")
    found = evaluate(network, coder, texts(), concepts=(), behaviour=4)
    assert [each.name for each in found.scores][:5] == ["coder", "random", "pca", "neurons", "linear"]
    assert found.of("linear").reconstruction.explained_variance.value > 0
    run = [network.run([text], capture=["layers.0.mlp_in", "layers.0.mlp_out"]) for text in texts()]
    x, y = (torch.cat([each[site][0] for each in run]) for site in ("layers.0.mlp_in", "layers.0.mlp_out"))
    wanted = explained_variance(y.numpy(), coder.reconstruct(x).numpy())
    assert found.own.reconstruction.explained_variance.value == pytest.approx(wanted, rel=1e-5)


def test_edge_detectors_have_no_loss_but_a_share_kept() -> None:
    network = vision()
    found = evaluate(network, rough(network, "relu"), pictures(), reference=pictures(9)[6:])
    assert found.own.recovered is None and found.own.behaviour is not None
    assert found.own.behaviour.edges_kept is not None and found.of("pca").behaviour is not None
    assert found.own.probing is None, "pictures have no tokens"


def test_what_cannot_be_evaluated() -> None:
    network = language()
    with pytest.raises(BadInput, match="was learned on"):
        evaluate(network, rough(language(seed=1), "embed"), texts())
    with pytest.raises(BadInput, match="no row"):
        evaluate(network, rough(network, "embed"), ["w5"], skip_first=9)
    with pytest.raises(NotTestable, match="equal"):
        evaluate(network, rough(network, "embed"), ["w5 w5 w5"], skip_first=1)
    with pytest.raises(BadInput, match="empty"):
        evaluate(network, rough(network, "embed"), [])


def test_a_basis_that_is_called_like_a_rival_keeps_its_own_scores() -> None:
    network = vision()
    basis = dataclasses.replace(neurons(5, origin(network, "relu")), name="pca")
    found = evaluate(network, basis, pictures(), behaviour=0)
    assert found.own.reconstruction.explained_variance.value == 1
    assert "pca (rival)" in [each.name for each in found.scores]


def test_random_directions_have_their_best_scale() -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.randn(300, 8, generator=rng)
    basis = random_directions(8, 64)
    place = Origin("n", "", "a", "a")
    chance = rivals(basis, place, y, y, y.mean(0), l0=4)["random"]
    best = explained_variance(y.numpy(), chance.reconstruct(y).numpy())
    assert isinstance(chance, Linear)
    for factor in (0.8, 1.25):
        worse = dataclasses.replace(chance, read=chance.read * factor)
        assert explained_variance(y.numpy(), worse.reconstruct(y).numpy()) < best
    assert np.isfinite(best) and best > 0
