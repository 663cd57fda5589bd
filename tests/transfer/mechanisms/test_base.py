"""What all mechanisms have in common, held against kernels written from the formulas index by index."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transfer.making import MECHANISMS, naive_kernel

from stolon.errors import UnknownNameError
from stolon.transfer.mechanisms import find, names
from stolon.transfer.mechanisms.base import glorot

SHAPES = [(4, 3, 1, 1), (5, 2, 3, 3), (3, 4, 5, 5), (2, 3, 7, 7), (2, 1, 11, 11)]


def drawn(transfer, shape, dtype=torch.float64):
    """A mechanism for one weight, with its shared tensors and factors, far from zero."""
    mechanism = find(transfer)([torch.Size(shape)])
    g = torch.Generator().manual_seed(0)
    initial = torch.randn(shape, generator=g)
    shared, factors = mechanism.shared(0, initial, g), mechanism.factors(0, initial, g)
    return (
        mechanism,
        {name: value.to(dtype) for name, value in shared.items()},
        {name: value.to(dtype) for name, value in factors.items()},
    )


def naive(transfer, shape, shared, factors):
    keyed = [{f"w/{name}": value for name, value in tensors.items()} for tensors in (shared, factors)]
    return naive_kernel(transfer, torch.Size(shape), "w", *keyed)


@pytest.mark.parametrize("transfer", MECHANISMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_is_what_the_formula_says(transfer, shape):
    mechanism, shared, factors = drawn(transfer, shape)
    found = mechanism.kernel(0, shared, factors)
    assert tuple(found.shape) == shape
    torch.testing.assert_close(found, naive(transfer, shape, shared, factors), rtol=1e-10, atol=1e-10)


@settings(max_examples=15)
@given(
    st.sampled_from(MECHANISMS),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from([1, 3, 5]),
)
def test_a_kernel_is_what_the_formula_says_for_any_channels(transfer, c_out, c_in, k):
    shape = (c_out, c_in, k, k)
    mechanism, shared, factors = drawn(transfer, shape)
    found = mechanism.kernel(0, shared, factors)
    torch.testing.assert_close(found, naive(transfer, shape, shared, factors), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transfer", ["hard", "tensor-factorization"])
@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 1, 2, 3)])
def test_weights_of_linear_and_other_layers_have_as_many_modes_as_they_have(transfer, shape):
    mechanism, shared, factors = drawn(transfer, shape)
    found = mechanism.kernel(0, shared, factors)
    torch.testing.assert_close(found, naive(transfer, shape, shared, factors), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_gradients_flow_to_all_that_a_kernel_is_made_of(transfer):
    mechanism, shared, factors = drawn(transfer, (4, 3, 3, 3))
    leaves = [tensor.requires_grad_() for tensor in (*shared.values(), *factors.values())]
    mechanism.kernel(0, shared, factors).square().sum().backward()
    assert leaves
    for leaf in leaves:
        assert leaf.grad is not None
        assert bool(leaf.grad.any())


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_gradients_of_a_kernel_are_those_of_finite_differences(transfer):
    mechanism, shared, factors = drawn(transfer, (2, 3, 3, 3))
    keys = [*shared], [*factors]
    tensors = [tensor.requires_grad_() for tensor in (*shared.values(), *factors.values())]

    def kernel(*tensors):
        common = dict(zip(keys[0], tensors[: len(keys[0])], strict=True))
        own = dict(zip(keys[1], tensors[len(keys[0]) :], strict=True))
        return mechanism.kernel(0, common, own)

    assert torch.autograd.gradcheck(kernel, tensors)


@pytest.mark.parametrize("transfer", MECHANISMS)
def test_draws_are_a_function_of_the_generator(transfer):
    def all_of(seed):
        mechanism, g = find(transfer)([torch.Size((4, 3, 3, 3))]), torch.Generator().manual_seed(seed)
        initial = torch.ones(4, 3, 3, 3)
        found = {**mechanism.shared(0, initial, g), **mechanism.factors(0, initial, g)}
        return torch.cat([value.flatten() for value in (*found.values(), mechanism.bias(torch.ones(4), g))])

    assert torch.equal(all_of(1), all_of(1))
    assert transfer == "hard" or not torch.equal(all_of(1), all_of(2))


def test_glorot_has_the_variance_that_its_name_promises():
    drawn = glorot((100, 300), 30, 70, torch.Generator().manual_seed(0))
    assert float(drawn.abs().max()) <= (6 / 100) ** 0.5
    assert float(drawn.var()) == pytest.approx(2 / 100, rel=0.03)


def test_mechanisms_are_found_by_name_and_others_refused():
    assert names() == MECHANISMS
    assert [find(name).name for name in names()] == list(names())
    with pytest.raises(UnknownNameError, match=r"transfer mechanism 'soft'.*hard"):
        find("soft")
