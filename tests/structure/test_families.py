"""Families: a planted bank of rotated filters comes back exactly, a random network has none."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from torch import nn

import cutaway
from cutaway.errors import BadInput, NotTestable, UnknownName
from cutaway.evidence import shuffled_weights, untrained_twin
from cutaway.structure.families import (
    Orbits,
    Poses,
    behaviour_loss,
    circular_correlation,
    cocycle,
    compression,
    confirm,
    families,
    find_families,
    group,
    hues,
    observe_orbits,
    pair_level,
    rotated,
    rotations,
    similarity,
    symmetrised,
    synchronised,
)
from cutaway.structure.families.symmetrize import _turned
from tests.networks.tiny import convnet, transformer

SIDE = 15
SHAPES = ((0.12, 1.57, 2.5, 1.0), (0.2, 1.57, 2.2, 1.8), (0.08, 0.97, 3.0, 1.3))  # frequency, phase, width, length


def gabor(angle: float, frequency: float, phase: float, sigma: float, elongation: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    a = np.deg2rad(angle)
    u, v = x * np.cos(a) - y * np.sin(a), -y * np.cos(a) - x * np.sin(a)
    made = np.exp(-(u**2 + (v / elongation) ** 2) / 2 / sigma**2) * np.cos(2 * np.pi * u * frequency + phase)
    return (made - made.mean()).astype(np.float32)


def together(angles: np.ndarray, period: float) -> bool:
    """All angles are one."""
    return bool(abs(np.exp(2j * np.pi * angles / period).mean()) > 1 - 1e-9)


@pytest.fixture(scope="module")
def bank() -> tuple[cutaway.Network, np.ndarray, np.ndarray]:
    """Three Gabor filters in eight rotations each, in random order; with the family and the angle of each unit."""
    kernels = [gabor(45.0 * k, *shape) for shape in SHAPES for k in range(8)]
    order = np.random.default_rng(5).permutation(24)
    conv = nn.Conv2d(3, 24, SIDE, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(np.stack(kernels))[order][:, None].expand(-1, 3, -1, -1) / 3)
        conv.bias.zero_()
    network = cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 32, 32))
    return network, order // 8, order % 8 * 45.0


@pytest.fixture(scope="module")
def found(bank):
    return families(bank[0], "1", count=32)


def test_the_bank_comes_back(bank, found) -> None:
    _, labels, angles = bank
    assert len(found.families) == 3 and not found.invariant
    assert adjusted_rand_score(labels, [found.of(unit) for unit in range(24)]) == 1
    for family in found.families:
        assert together(np.array(family.poses) - angles[list(family.units)], 360), "no pose is off by a step"
        assert family.symmetry == 1 and family.cocycle == 0


def test_the_bank_compresses_eightfold(bank, found) -> None:
    network, _, _ = bank
    saved = compression(network, found, None, draws=20, pictures=4)
    assert saved.factor == pytest.approx(8) and saved.tied == 1
    assert saved.r2.value > 0.98 and saved.r2.p < 0.05 and saved.r2.null_mean < 0.5
    assert saved.r2_twin < 0.3 and saved.to_json()["r2_twin"] == saved.r2_twin
    assert saved.loss < 0.05 and [row[0] for row in saved.rows] == [1, 2, 3]


def test_ties_that_cost_too_much_are_not_counted(bank, found) -> None:
    """The same families claimed of weights that have none: tying changes nearly everything."""
    shuffled = shuffled_weights(bank[0], seed=0)
    strict = compression(shuffled, found, None, draws=20, pictures=4, most_loss=0.05)
    assert strict.factor == 1 and strict.loss == 0 and min(row[2] for row in strict.rows) > 0.05
    lax = compression(shuffled, found, None, draws=20, pictures=4, most_loss=1e9)
    assert lax.factor == pytest.approx(8) and lax.loss > 0.05


def test_the_level_of_a_network_counts_turned_pairs_only() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(24, 16))
    copies = Orbits("a", rotations(24), np.stack([base, base, base]))
    assert pair_level(copies) == 0
    turned = Orbits("a", rotations(24), np.stack([base, np.roll(base, 6, axis=0)]))
    assert pair_level(turned) == pytest.approx(1)


def test_a_random_network_has_no_family(bank) -> None:
    assert families(untrained_twin(bank[0], seed=3), "1", count=32).families == ()


def test_a_random_deep_network_has_no_family() -> None:
    torch.manual_seed(4)
    layers = [nn.Conv2d(3, 24, 5, padding=2), nn.ReLU(), nn.Conv2d(24, 32, 5, padding=2), nn.ReLU()]
    network = cutaway.wrap(nn.Sequential(*layers), example=torch.zeros(1, 3, 32, 32))
    assert families(network, "3", count=32).families == ()


def test_members_need_not_sit_in_the_middle_of_their_fields() -> None:
    """Filters that lie up to a pixel off the middle, each elsewhere: found with a window, torn apart without one."""
    places = np.random.default_rng(1).integers(-1, 2, (8, 2))
    kernels = [np.roll(gabor(45.0 * k, *SHAPES[0]), tuple(place), (0, 1)) for k, place in enumerate(places)]
    conv = nn.Conv2d(3, 8, SIDE, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(np.stack(kernels))[:, None].expand(-1, 3, -1, -1) / 3)
        conv.bias.zero_()
    network = cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 32, 32))
    (family,) = families(network, "1", count=48, twins=0, window=2).families
    assert len(family.units) == 8 and together(np.array(family.poses) - 45.0 * np.array(family.units), 360)
    alone = families(network, "1", count=48, twins=0).families
    assert all(len(each.units) < 8 for each in alone)


def test_the_window_is_round() -> None:
    """Identity units see one lit pixel: within the window at its sides, not at its corners."""
    network = cutaway.wrap(nn.Sequential(nn.Conv2d(3, 1, 1)), example=torch.zeros(1, 3, 16, 16))
    with torch.no_grad():
        network.module[0].weight.fill_(1)
        network.module[0].bias.zero_()
    pictures = torch.zeros(8, 3, 17, 17)
    pictures[0, 0, 8, 10], pictures[1, 0, 10, 10], pictures[2, 0, 8, 8] = 1, 1, 1
    upright = [observe_orbits(network, "0", rotations(4), pictures=pictures, window=w).acts[0, 0] for w in (2, 0)]
    assert upright[0].tolist() == [1, 0, 1, 0, 0, 0, 0, 0] and upright[1].tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_copies_are_no_family() -> None:
    """Eight units with one and the same filter are alike at no turn at all."""
    conv = nn.Conv2d(3, 8, SIDE, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(gabor(30, *SHAPES[0]))[None, None].expand(8, 3, -1, -1))
    network = cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 32, 32))
    assert families(network, "1", count=32, twins=0).families == ()


def test_blobs_are_invariant() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    blobs = np.stack([np.exp(-(x**2 + y**2) / 2 / s**2) for s in (1, 1.5, 2, 2.5)])
    conv = nn.Conv2d(3, 4, SIDE, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(blobs, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1) / 3)
    network = cutaway.wrap(nn.Sequential(conv), example=torch.zeros(1, 3, 32, 32))
    assert families(network, "0", count=32, twins=0).invariant == (0, 1, 2, 3)


def test_lines_have_symmetry_two() -> None:
    """A detector of even phase answers alike to a picture and to the picture turned by half."""
    kernels = np.stack([gabor(30.0 * k, 0.12, 0.0, 2.5, 1.5) for k in range(6)])
    conv = nn.Conv2d(3, 6, SIDE, padding=SIDE // 2)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(kernels)[:, None].expand(-1, 3, -1, -1) / 3)
    network = cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 32, 32))
    (family,) = families(network, "1", count=64, twins=0).families
    assert family.symmetry == 2
    assert together(np.array(family.poses) - 30.0 * np.array(family.units), 180)


def test_hue_families_without_space() -> None:
    """Twelve units that each prefer a hue, thirty degrees apart."""
    angle = np.deg2rad(np.arange(12) * 30)
    axes = np.array([[2, -1, -1], [0, 3**0.5, -(3**0.5)]]) / 6**0.5
    weight = np.cos(angle)[:, None] * axes[0] + np.sin(angle)[:, None] * axes[1]
    conv = nn.Conv2d(3, 12, 1)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(weight, dtype=torch.float32)[:, :, None, None])
        conv.bias.zero_()
    network = cutaway.wrap(nn.Sequential(conv, nn.ReLU()), example=torch.zeros(1, 3, 16, 16))
    pictures = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    made = find_families(observe_orbits(network, "1", hues(), pictures=pictures))
    (family,) = made.families
    assert len(family.units) == 12 and together(np.array(family.poses) - 30.0 * np.array(family.units), 360)


def test_similarity_by_hand() -> None:
    """Unit 1 answers one step later than unit 0; unit 2 is flat over every orbit."""
    base = np.array([[1.0, 0, 0, 0], [0, 2, 0, 0]]).T  # [element crop]
    acts = np.stack([base, np.roll(base, 1, axis=0), np.ones((4, 2)) * [3, 5]])
    orbits = Orbits("x", rotations(4), acts)
    alike = similarity(orbits)
    assert alike[0, 1].argmax() == 1 and alike[0, 1].max() == pytest.approx(1)
    assert alike[0, 0] == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    assert orbits.variant_share[2] == 0 and orbits.invariant.tolist() == [False, False, True]
    # energies over the two crops are 3/4 and 3: (15/4)^2 / (9/16 + 9)
    assert orbits.active_crops[0] == pytest.approx((15 / 4) ** 2 / (9 / 16 + 9))


def test_poses_from_shifts() -> None:
    poses = np.array([0.0, 3, 7, 20])
    shifts = (poses[None, :] - poses[:, None]) % 24
    assert synchronised(shifts, np.ones((4, 4)), 24) % 24 == pytest.approx(poses)
    assert cocycle(shifts, 24) == 0
    wrong = shifts.copy()
    wrong[0, 1], wrong[1, 0] = 6, 18  # three steps off: it is a leg of 12 of the 24 triples
    assert cocycle(wrong, 24) == pytest.approx(3 * 12 / 24)


def test_circular_correlation_by_hand() -> None:
    angles = np.array([10.0, 80, 200, 300])
    assert circular_correlation(angles, (angles + 77) % 360) == pytest.approx(1)
    assert circular_correlation(angles, -angles) == pytest.approx(-1)
    assert circular_correlation(angles, (angles / 2 + 5) % 180, 180) < 1
    assert abs(circular_correlation(np.arange(0.0, 360, 30), np.random.default_rng(0).uniform(0, 360, 12))) < 0.6


@pytest.mark.parametrize("side", [3, 5])
def test_a_quarter_turn_of_a_kernel_is_exact(side: int) -> None:
    kernel = torch.randn(1, side, side, dtype=torch.float64)
    assert torch.allclose(_turned(kernel, np.array([90.0])), torch.rot90(kernel, 1, (-2, -1)), atol=1e-6)
    assert torch.allclose(_turned(kernel, np.array([0.0])), kernel, atol=1e-6)


def test_pictures_turn_counter_clockwise() -> None:
    picture = torch.zeros(1, 1, 9, 9)
    picture[0, 0, 4, 8] = 1  # on the right
    assert rotated(picture, 90.0)[0, 0, 0, 4] == 1, "it is on top"
    assert rotated(picture, 45.0)[0, 0, :4, 5:].sum() > 0.5


def test_untied_weights_of_an_equivariant_network_are_symmetric() -> None:
    """W[i, j](x) = V[q_j - p_i](R(-p_i) x) by construction, for quarter turns: nothing is lost."""
    canonical = torch.randn(4, 3, 3, dtype=torch.float64)  # V, one kernel for each relative pose
    weight = torch.stack(
        [torch.stack([torch.rot90(canonical[(q - p) % 4], p, (-2, -1)) for q in range(4)]) for p in range(4)]
    )
    order = [2, 0, 3, 1]
    poses = Poses((0,) * 4, tuple(6.0 * q for q in range(4)), (24,))
    shuffled = Poses((0,) * 4, tuple(6.0 * order[q] for q in range(4)), (24,))
    made = symmetrised(weight[order], shuffled, poses, rotations())
    assert made.r2 == pytest.approx(1) and made.compression == pytest.approx(4)
    test = confirm(weight[order], shuffled, poses, rotations(), draws=60)
    assert test.value == pytest.approx(1) and test.null_mean < 0.9


def test_random_weights_do_not_respect_poses() -> None:
    weight = torch.randn(16, 16, 3, 3, generator=torch.Generator().manual_seed(1))
    poses = Poses((0,) * 8 + (1,) * 8, tuple(3.0 * (u % 8) for u in range(16)), (24, 24))
    test = confirm(weight, poses, poses, rotations(), draws=60)
    assert test.p > 0.05 and test.value < 0.3


def test_ties_leave_other_units_alone() -> None:
    weight = torch.randn(6, 3, 3, 3)
    poses = Poses((0, 0, 0, 0, -2, -1), (0.0, 6.0, 12.0, 18.0, 0.0, 0.0), (24,))
    made = symmetrised(weight, poses, Poses.invariant(3), rotations())
    assert torch.equal(made.weight[4:], weight[4:]) and not torch.allclose(made.weight[:4], weight[:4])
    assert made.tied == pytest.approx(12 / 18) and made.compression == pytest.approx(18 / (6 + 3))


def test_a_single_invariant_target_is_tied() -> None:
    """One row of classes is a view that cannot be written to, which PyTorch warns of."""
    weight = torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(2))
    made = symmetrised(weight, Poses.invariant(1), Poses((0,) * 4, (0.0, 6.0, 12.0, 18.0), (24,)), rotations())
    assert made.tied == 1 and made.compression == pytest.approx(4)


def test_behaviour_loss_by_hand() -> None:
    network = cutaway.wrap(convnet(), example=torch.zeros(1, 3, 32, 32), task="classifier")
    before, after = torch.tensor([[2.0, 1], [0, 1], [3, 0]]), torch.tensor([[1.0, 2], [0, 1], [3, 0]])
    assert behaviour_loss(network, before, after) == (pytest.approx(1 / 3), "share of top-1 answers changed")


def test_what_has_no_families() -> None:
    network = cutaway.wrap(convnet(), example=torch.zeros(1, 3, 32, 32))
    with pytest.raises(NotTestable, match="no feature map"):
        families(network, "7")
    with pytest.raises(NotTestable, match="no feature map"):
        families(cutaway.wrap(transformer("llama")), "layers.0.mlp")
    with pytest.raises(UnknownName, match="rotation"):
        group("rotations")
    pictures = torch.rand(8, 3, 32, 32)
    made = find_families(observe_orbits(network, "1", rotations(), pictures=pictures))
    other = find_families(observe_orbits(network, "4", rotations(), pictures=pictures))
    with pytest.raises(BadInput, match="families of another site"):
        compression(network, made, other)
