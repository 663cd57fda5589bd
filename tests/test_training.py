"""TensorFlow's RMSProp against its update rule in numpy, and optimisers' states."""

import numpy as np
import pytest
import torch

from stolon.errors import SettingError
from stolon.training import OPTIMIZERS, Training, load_optimizer, make_optimizer, optimizer_tensors

GRADIENTS = [
    np.array(gradient)
    for gradient in ([1.0, -0.5, 0.0], [0.3, 2.0, 0.0], [0.0, -1.0, 0.0], [5.0, 1e-3, 0.0], [-2.0, 0.1, 1.0])
]


def stepped(training, gradients, dtype=torch.float64, optimizer=None, weight=None):
    weight = torch.tensor([1.0, -2.0, 3.0], dtype=dtype) if weight is None else weight
    weight.requires_grad_()
    optimizer = optimizer or make_optimizer([weight], training)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=dtype)
        optimizer.step()
    return weight.detach().clone(), optimizer


def test_five_steps_of_tensorflows_rmsprop_by_hand():
    """TF 1: squares begin at 1, decay 0.9, epsilon 1e-10 inside the root, no momentum."""
    weight, mean_square = np.array([1.0, -2.0, 3.0]), np.ones(3)
    for g in GRADIENTS:
        mean_square = 0.9 * mean_square + 0.1 * g**2
        weight = weight - 0.01 * g / np.sqrt(mean_square + 1e-10)
    training = Training(optimizer="rmsprop-tf", learning_rate=0.01, momentum=0.0)
    found, _ = stepped(training, GRADIENTS)
    np.testing.assert_allclose(found.numpy(), weight, rtol=1e-12)
    assert stepped(training, GRADIENTS, torch.float32)[0].numpy() == pytest.approx(weight, rel=1e-5)


def test_it_differs_from_torchs_rmsprop_at_the_first_step():
    """Squares that begin at 0 make the first step ten times the learning rate."""
    tf, plain = (
        stepped(Training(optimizer=name, learning_rate=0.01, momentum=0.0), GRADIENTS[:1])[0]
        for name in ("rmsprop-tf", "rmsprop")
    )
    assert float(1 - tf[0]) == pytest.approx(0.01, rel=1e-6)
    assert float(1 - plain[0]) == pytest.approx(0.1, rel=1e-6)  # squares averaged over a hundred steps


def test_momentum_accumulates_steps_with_their_learning_rate():
    """TF 1: momentum <- 0.5 momentum + lr g / sqrt(...), and the weight falls by it."""
    weight, mean_square, momentum = np.array([1.0, -2.0, 3.0]), np.ones(3), np.zeros(3)
    for g in GRADIENTS:
        mean_square = 0.9 * mean_square + 0.1 * g**2
        momentum = 0.5 * momentum + 0.01 * g / np.sqrt(mean_square + 1e-10)
        weight = weight - momentum
    found, _ = stepped(Training(optimizer="rmsprop-tf", learning_rate=0.01, momentum=0.5), GRADIENTS)
    np.testing.assert_allclose(found.numpy(), weight, rtol=1e-12)


def test_what_has_no_gradient_yet_stays_where_it_is_and_its_squares_decay():
    training = Training(optimizer="rmsprop-tf", learning_rate=0.01, momentum=0.0)
    found, optimizer = stepped(training, [np.zeros(3)] * 3)
    assert found.tolist() == [1.0, -2.0, 3.0]
    squares = optimizer_tensors(optimizer)["optimizer.0.square_avg"]
    assert squares.tolist() == pytest.approx([0.9**3] * 3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_as_tensors_goes_on_bit_for_bit(name):
    training = Training(optimizer=name, learning_rate=0.01, momentum=0.3, weight_decay=0.1)
    whole, _ = stepped(training, GRADIENTS)
    half, optimizer = stepped(training, GRADIENTS[:2])
    weight = half.requires_grad_()
    again = make_optimizer([weight], training)
    load_optimizer(again, {key: value.clone() for key, value in optimizer_tensors(optimizer).items()})
    found, _ = stepped(training, GRADIENTS[2:], optimizer=again, weight=weight)
    assert torch.equal(found, whole)


def test_an_optimiser_that_there_is_not_is_refused():
    with pytest.raises(SettingError, match=r"optimizer: expected one of sgd, .*rmsprop-tf, found 'lion'"):
        Training(optimizer="lion")
