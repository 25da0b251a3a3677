"""Concepts that tokens have, agreement between seeds, and features whose truth is known."""

import numpy as np
import pytest
import torch

from cutaway.bases import Linear, random_directions
from cutaway.bases.evaluation import Concept, evaluate, recovery, stability, synthetic_features, token_concepts
from cutaway.bases.evaluation.probing import Examples, probing
from cutaway.bases.evaluation.synthetic import CHILD, GROUP, Sampled
from cutaway.errors import BadInput
from tests.bases.unfolding.planted import language, origin

# -- concepts ----------------------------------------------------------------------------------------------------


def planted_examples(seed: int, shared: bool = False) -> Examples:
    """Unit 0 has the concept; with ``shared``, on half of the rows unit 1 has it instead (absorption)."""
    rng = np.random.default_rng(seed)
    has = np.arange(200) < 100
    acts = 0.1 * rng.standard_normal((200, 6)).astype("float32")
    acts[:, 0] += has * (1.0 - 0.95 * (shared & (np.arange(200) % 2 == 0)))
    acts[:, 1] += has * 0.95 * (shared & (np.arange(200) % 2 == 0))
    rows = torch.from_numpy(acts.astype("float32"))
    return Examples(rows, rows, has)


def test_one_latent_tells_a_planted_concept_and_random_codes_do_not() -> None:
    fit, held = planted_examples(0), planted_examples(1)
    clean = Linear("eye", torch.eye(6), torch.eye(6), torch.zeros(6))
    found = probing(clean, {"c": fit}, {"c": held}, on_written=True)
    assert found is not None and found.concepts == ("c",)
    assert [k for k, _ in found.accuracy] == [1, 2, 5] and found.accuracy[0][1].value > 0.97
    other = Linear("blind", torch.eye(6)[:, 2:], torch.eye(6)[2:], torch.zeros(6))
    blind = probing(other, {"c": fit}, {"c": held}, on_written=True)
    assert blind is not None and blind.accuracy[0][1].value < 0.65 and [k for k, _ in blind.accuracy] == [1, 2]


def test_a_latent_that_steps_in_for_another_is_absorption() -> None:
    """Latent 0 is the concept but where the token w is; there latent 1 fires and carries the concept's direction."""
    rng = np.random.default_rng(0)
    has = np.arange(400) < 200
    stands_in = has & (np.arange(400) % 4 == 0)
    acts = np.zeros((400, 4), dtype="float32")
    acts[:, 0] = has + 0.05 * rng.standard_normal(400)
    acts[:, 1] = stands_in + 0.05 * rng.standard_normal(400)
    rows = torch.from_numpy(acts)
    given = Examples(rows, rows, has)

    class Absorbing:
        name, origin, width = "absorbing", None, 2

        def encode(self, x: torch.Tensor) -> torch.Tensor:
            special = x[:, 1] > 0.5
            concept = (x[:, 0] > 0.5) & ~special
            return torch.stack([concept.float(), special.float()], 1)

        def directions(self) -> torch.Tensor:
            return torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 0, 0]])

        def decode(self, codes: torch.Tensor) -> torch.Tensor:
            return codes @ self.directions()

        reconstruct = encode

    found = probing(Absorbing(), {"c": given}, {"c": given}, on_written=True)  # type: ignore[arg-type]
    assert found is not None and found.absorption is not None
    # Both latents together tell the concept better, so the second is a main one, too: nothing is absorbed.
    assert found.absorption.value < 0.05
    rare = has & (np.arange(400) % 40 == 0)  # too rare for a main latent
    acts[:, 1] = rare + 0.01 * rng.standard_normal(400)
    few = Examples(torch.from_numpy(acts), torch.from_numpy(acts), has)
    missing = probing(Absorbing(), {"c": few}, {"c": few}, on_written=True)  # type: ignore[arg-type]
    assert missing is not None and missing.absorption is not None
    assert missing.absorption.value == pytest.approx(rare.sum() / has.sum(), abs=0.01)


def test_concepts_of_tokens() -> None:
    by_name = {each.name: each.holds for each in token_concepts()}
    assert by_name["first letter a"](" Apple") and not by_name["first letter a"]("apple"), "a word starts with a space"
    assert by_name["number"](" 42") and by_name["punctuation"]("),") and by_name["capitalised"](" The")
    assert by_name["starts a word"](" the") and not by_name["starts a word"]("ing")


def test_concepts_are_found_in_a_network() -> None:
    network = language()
    many = [" ".join(f"w{3 + (7 * row + 5 * word) % 57}" for word in range(8)) for row in range(60)]
    basis = Linear("all", torch.eye(16), torch.eye(16), torch.zeros(16), origin(network, "embed"))
    even = Concept("even letter", lambda text: text[1] in "aceg")
    never = Concept("never", lambda text: False)
    found = evaluate(
        network, basis, many[:30], reference=many[30:], behaviour=0, concepts=(even, never), skip_first=1
    ).own.probing
    assert found is not None and found.concepts == ("even letter",)
    assert all(0.3 <= value.value <= 1 for _, value in found.accuracy)
    assert evaluate(network, basis, many[:30], behaviour=0).own.probing is None, "nothing to fit on"


# -- stability ---------------------------------------------------------------------------------------------------


def frame(rows: torch.Tensor, name: str = "b") -> Linear:
    return Linear(name, rows.T.contiguous(), rows, torch.zeros(rows.shape[1]))


def test_the_same_directions_in_another_order_agree_and_random_ones_do_not() -> None:
    rows = random_directions(32, 128, seed=0).directions()
    order = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    same = stability([frame(rows), frame(rows[order])])
    assert same.mmcs.value == pytest.approx(1) and same.mmcs_excess > 0.5 and same.subspace.value == pytest.approx(1)
    assert same.dimension == 8 and same.angles[-1] < 1 and np.isnan(same.covariance_subspace)
    apart = stability([frame(rows), frame(random_directions(32, 128, seed=9).directions())])
    assert abs(apart.mmcs_excess) < 0.01 and apart.mmcs.null_mean == pytest.approx(0.44, abs=0.02)  # reference, C3
    assert abs(apart.subspace.value - 8 / 32) < 0.1 and apart.mmcs.p > 0.05


def test_rotated_features_of_one_plane_agree_as_a_subspace_only() -> None:
    """Two codes of the same plane in eight dimensions, their directions turned against each other."""
    angles = torch.arange(3) * 2 * np.pi / 3
    plane = torch.stack([angles.cos(), angles.sin()], 1)
    turned = torch.stack([(angles + np.pi / 3).cos(), (angles + np.pi / 3).sin()], 1)
    pad = torch.zeros(3, 6)
    found = stability([frame(torch.cat([plane, pad], 1)), frame(torch.cat([turned, pad], 1))], dimension=2)
    assert found.subspace.value == pytest.approx(1) and found.mmcs.value == pytest.approx(0.5, abs=1e-6)
    assert found.angles == pytest.approx((0, 0), abs=0.1)


def test_latents_that_never_fire_do_not_count_for_the_subspace() -> None:
    rng = torch.Generator().manual_seed(0)
    acts = torch.cat([torch.randn(500, 2, generator=rng), torch.zeros(500, 6)], 1)
    used = torch.eye(8)[:2]
    bases = [
        frame(torch.cat([used, 5 * torch.eye(8)[2:5]])),
        frame(torch.cat([used, 5 * torch.eye(8)[5:8]])),
    ]
    assert stability(bases, acts=acts, dimension=2).subspace.value == pytest.approx(1)
    assert stability(bases, dimension=2).subspace.value == pytest.approx(0, abs=1e-9)
    assert np.isfinite(stability(bases, acts=acts, dimension=2).covariance_subspace)


def test_what_cannot_be_compared() -> None:
    one, other = frame(torch.eye(4)), frame(torch.eye(5))
    for bases, options, said in (([one], {}, "two or more"), ([one, other], {}, "two or more"),
                                 ([one, one], {"dimension": 5}, "1 to 4")):  # fmt: skip
        with pytest.raises(BadInput, match=said):
            stability(bases, **options)


# -- known features ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["independent", "correlated", "hierarchical"])
def test_features_are_on_as_often_as_promised(kind: str) -> None:
    truth = synthetic_features(32, 16, kind=kind, active=0.1)
    given = truth.sample(20_000, seed=1)
    on = (given.codes > 0).double().numpy()
    rate = on.mean(0)
    parent = np.arange(32) % GROUP == 0
    if kind == "hierarchical":
        assert rate[parent] == pytest.approx(0.1, abs=0.01) and rate[~parent] == pytest.approx(0.1 * CHILD, abs=0.01)
        assert not (on[:, 1] > on[:, 0]).any(), "no child without its parent"
    else:
        assert rate == pytest.approx(0.1, abs=0.015)
        together = float((on[:, 0] * on[:, 1]).mean() / 0.01)
        assert (together > 2.5) if kind == "correlated" else abs(together - 1) < 0.25
    assert torch.allclose(given.acts, given.codes @ truth.directions)
    assert torch.equal(given.acts, truth.sample(20_000, seed=1).acts)


def test_power_law_frequencies() -> None:
    truth = synthetic_features(100, 16, active=0.02, power=1.0)
    assert truth.frequency[0] / truth.frequency[9] == pytest.approx(10)
    assert truth.frequency.mean() == pytest.approx(0.02)
    with pytest.raises(BadInput, match="independent"):
        synthetic_features(4, 4, kind="chaotic")


class Oracle:
    """The true features and their sizes, for rows that it is told."""

    name, origin = "oracle", None

    def __init__(self, directions: torch.Tensor, codes: torch.Tensor) -> None:
        self.width, self._directions, self._codes = len(directions), directions, codes

    def encode(self, acts: torch.Tensor) -> torch.Tensor:
        return self._codes

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        return codes @ self._directions

    def directions(self) -> torch.Tensor:
        return self._directions

    reconstruct = encode


def test_the_truth_recovers_itself_and_half_of_it_half() -> None:
    truth = synthetic_features(40, 20, active=0.1)
    given = truth.sample(2_000, seed=2)
    whole = recovery(Oracle(truth.directions, given.codes), truth, given)  # type: ignore[arg-type]
    assert whole.mcc == pytest.approx(1) and whole.f1 == pytest.approx(1) and whole.features == 40
    assert whole.random_mcc < 0.75 and whole.random_f1 < 0.5
    half = recovery(Oracle(truth.directions[:20], given.codes[:, :20]), truth, given)  # type: ignore[arg-type]
    assert half.mcc == pytest.approx(0.5) and half.f1 == pytest.approx(0.5)


def test_f1_by_hand() -> None:
    """One feature on in rows 0 and 1, its latent in rows 1 and 2: one hit, one miss, one false alarm."""
    truth = synthetic_features(2, 2, active=0.1)
    codes = torch.tensor([[1.0, 0], [1, 0], [0, 0], [0, 1]])
    said = torch.tensor([[0.0, 0], [1, 0], [1, 0], [0, 1]])
    found = recovery(Oracle(truth.directions, said), truth, Sampled(codes @ truth.directions, codes))  # type: ignore[arg-type]
    assert found.f1 == pytest.approx((0.5 + 1) / 2) and found.l0 == pytest.approx(0.75)
