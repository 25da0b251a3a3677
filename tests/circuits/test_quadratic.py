"""The quadratic kernel against matrices that are multiplied out, and by hand."""

import pytest
import torch

from cutaway.circuits.quadratic import Quadratic, directions_for
from cutaway.errors import BadInput


def random_form(rank: int = 3, width: int = 7) -> Quadratic:
    left, right, alpha, beta = (torch.randn(*shape, dtype=torch.float64) for shape in
                                ((rank, width), (rank, width), (rank,), (rank,)))  # fmt: skip
    return Quadratic.of_readings(left, right, alpha, beta, 0.5)


def full(form: Quadratic) -> torch.Tensor:
    return form.left.T @ form.right


def test_two_readings_by_hand() -> None:
    left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    form = Quadratic.of_readings(left, right, torch.tensor([1.0]), torch.tensor([2.0]), 0.5)
    # 0.5 * (1*1 + 2*1 + 1) * (3*2 + 2) = 16
    assert float(form.value(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 5.0]))) == 16.0
    ledger = form.ledger(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 5.0]]))
    assert ledger.cross.tolist() == [[3.0], [6.0]]  # 0.5*1*6, 0.5*2*6
    assert ledger.from_x.tolist() == [1.0, 2.0] and ledger.from_y.tolist() == [3.0] and ledger.constant == 1.0
    assert ledger.total == 16.0 and float(ledger.matrix().sum()) == 16.0 and ledger.matrix().shape == (3, 2)


def test_a_bilinear_layer_along_a_direction() -> None:
    first, second, direction = torch.randn(5, 4), torch.randn(5, 4), torch.randn(5)
    form, x = Quadratic.of_bilinear(first, second, direction), torch.randn(9, 4)
    expected = ((x @ first.T) * (x @ second.T)) @ direction
    torch.testing.assert_close(form.value(x, x), expected, atol=1e-5, rtol=1e-4)
    values, vectors = form.symmetric_eigen()
    torch.testing.assert_close(((x @ vectors.T).square() * values).sum(1), expected, atol=1e-5, rtol=1e-4)
    assert values.abs().diff().max() <= 0


def test_norm_spectrum_and_eigenvalues_are_those_of_the_full_matrix() -> None:
    form = random_form()
    matrix, spectrum = full(form), form.spectrum()
    assert form.norm() == pytest.approx(float(matrix.norm()))
    torch.testing.assert_close(spectrum.values, torch.linalg.svdvals(matrix)[:3])
    torch.testing.assert_close((spectrum.left.T * spectrum.values) @ spectrum.right, matrix)
    assert form.spectrum(1).left.shape == (1, 7)
    expected = torch.linalg.eigvals(matrix).abs().sort(descending=True).values[:3]
    torch.testing.assert_close(form.eigenvalues().abs().sort(descending=True).values, expected)


def test_symmetric_and_antisymmetric_parts() -> None:
    form = random_form()
    matrix = full(form)
    symmetric, anti = (matrix + matrix.T) / 2, (matrix - matrix.T) / 2
    assert form.symmetric_share() == pytest.approx(float(symmetric.square().sum() / matrix.square().sum()))
    values, vectors = form.symmetric_eigen()
    torch.testing.assert_close((vectors.T * values) @ vectors, symmetric)
    speeds, planes = form.antisymmetric_planes()
    p, q = planes[:, 0], planes[:, 1]
    torch.testing.assert_close((p.T * speeds) @ q - (q.T * speeds) @ p, anti)
    assert (speeds > 0).all() and speeds.diff().max() <= 0


def test_a_form_that_is_symmetric_or_turns() -> None:
    eye, turn = torch.eye(2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert Quadratic.of_readings(eye, eye).symmetric_share() == pytest.approx(1.0)
    assert Quadratic.of_readings(eye, turn).symmetric_share() == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(BadInput, match="without a quadratic part"):
        Quadratic.of_readings(eye * 0, eye).symmetric_share()
    with pytest.raises(BadInput, match="one space"):
        Quadratic.of_readings(torch.ones(1, 2), torch.ones(1, 3)).eigenvalues()


def test_restricted_to_features() -> None:
    form, features = random_form(), torch.randn(4, 7, dtype=torch.float64)
    u, v = torch.randn(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    small = form.restricted(features, features)
    torch.testing.assert_close(small.value(u, v), form.value(u @ features, v @ features))


def test_directions_that_carry_a_score() -> None:
    eye = torch.eye(3)
    form = Quadratic.of_readings(torch.diag(torch.tensor([3.0, 2.0, 1.0])), eye)
    x = torch.tensor([[1.0, 1.0, 1.0]])
    # directions add 3, 2, 1 of 6: two carry 5/6, all three more than 0.9
    assert directions_for(form, x, x, 0.8) == 2 and directions_for(form, x, x, 0.9) == 3
    assert directions_for(form, x, -x) == 0
    with pytest.raises(BadInput, match="at most 1"):
        directions_for(form, x, x, 1.5)
