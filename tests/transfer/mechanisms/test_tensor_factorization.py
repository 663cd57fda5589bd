import pytest
import torch

from stolon.transfer.mechanisms import TensorFactorization
from stolon.transfer.mechanisms.tensor_factorization import multiply_modes

SHAPE = torch.Size((4, 3, 3, 2))


@pytest.fixture
def mechanism():
    return TensorFactorization([SHAPE])


def orthogonal(n, seed):
    return torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(seed)).double())[0]


def test_factors_are_square_and_one_for_each_mode(mechanism):
    g = torch.Generator().manual_seed(0)
    shared, factors = mechanism.shared(0, torch.zeros(SHAPE), g), mechanism.factors(0, torch.zeros(SHAPE), g)
    assert {name: tuple(value.shape) for name, value in shared.items()} == {"core": (4, 3, 3, 2)}
    shapes = {"u0": (4, 4), "u1": (3, 3), "u2": (3, 3), "u3": (2, 2)}
    assert {name: tuple(value.shape) for name, value in factors.items()} == shapes


def test_with_identity_factors_the_kernel_is_the_core(mechanism):
    core = torch.randn(SHAPE)
    factors = {f"u{i}": torch.eye(n) for i, n in enumerate(SHAPE)}
    assert torch.equal(mechanism.kernel(0, {"core": core}, factors), core)


def test_orthogonal_factors_keep_the_cores_norm_and_cost_nothing(mechanism):
    core = torch.randn(SHAPE, dtype=torch.float64)
    factors = {f"u{i}": orthogonal(n, i) for i, n in enumerate(SHAPE)}
    kernel = mechanism.kernel(0, {"core": core}, factors)
    assert float(kernel.norm()) == pytest.approx(float(core.norm()), rel=1e-12)
    assert float(mechanism.penalty(factors)) == pytest.approx(0, abs=1e-12)


def test_the_penalty_is_the_norm_and_not_its_square(mechanism):
    factors = {"u0": 2 * torch.eye(3), "u1": torch.eye(2)}  # U^T U - I = 3 I: norm sqrt(27)
    assert float(mechanism.penalty(factors)) == pytest.approx(27**0.5)


def test_the_penaltys_gradient_is_finite_where_a_factor_is_orthogonal_already(mechanism):
    factors = {"u0": torch.eye(3, requires_grad=True), "u1": (2 * torch.eye(3)).requires_grad_()}
    mechanism.penalty(factors).backward()
    assert torch.equal(factors["u0"].grad, torch.zeros(3, 3))
    assert bool(factors["u1"].grad.any())


def test_core_and_bias_are_glorot_draws(mechanism):
    g = torch.Generator().manual_seed(0)
    shape = torch.Size((64, 32, 3, 3))
    core = TensorFactorization([shape]).shared(0, torch.full(shape, 9.0), g)["core"]
    assert float(core.var()) == pytest.approx(2 / (9 * (32 + 64)), rel=0.05)
    bias = mechanism.bias(torch.full((4000,), 9.0), g)
    assert float(bias.var()) == pytest.approx(2 / 8000, rel=0.05)


def test_modes_are_multiplied_in_any_number():
    core = torch.randn(2, 3, dtype=torch.float64)
    a, b = torch.randn(5, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(multiply_modes(core, [a, b]), a @ core @ b.T)
