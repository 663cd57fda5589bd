"""TensorFlow's RMSProp against its update rule in numpy, and optimisers' states."""

import numpy as np
import pytest
import torch

from stolon.errors import SettingError
from stolon.tasks import Split, Task
from stolon.training import (
    OPTIMIZERS,
    Fit,
    Group,
    Training,
    load_optimizer,
    make_optimizer,
    optimizer_tensors,
)

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


# Groups with rates of their own


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_groups_rate_scales_its_steps_and_no_others(name):
    """Without momentum or decay every optimiser's first step is proportional to the rate."""
    training = Training(optimizer=name, learning_rate=0.01, momentum=0.0)
    weights = [torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True) for _ in range(2)]
    before = [weight.detach().clone() for weight in weights]
    optimizer = make_optimizer([Group([weights[0]]), Group([weights[1]], 0.1)], training)
    for weight in weights:
        weight.grad = torch.tensor([0.5, -1.0], dtype=torch.float64)
    optimizer.step()
    full, tenth = (weight.detach() - old for weight, old in zip(weights, before, strict=True))
    assert full.any()
    torch.testing.assert_close(tenth, 0.1 * full)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_of_groups_goes_on_bit_for_bit(name):
    training = Training(optimizer=name, learning_rate=0.01, momentum=0.3)

    def stepped_groups(gradients, weights=None, state=None):
        weights = weights or [torch.ones(3).requires_grad_() for _ in range(3)]
        optimizer = make_optimizer([Group(weights[:1]), Group(weights[1:], 0.1)], training)
        load_optimizer(optimizer, state or {})
        for gradient in gradients:
            for weight in weights:
                weight.grad = torch.tensor(gradient, dtype=torch.float32)
            optimizer.step()
        return [w.detach().clone() for w in weights], {
            k: v.clone() for k, v in optimizer_tensors(optimizer).items()
        }

    whole, _ = stepped_groups(GRADIENTS)
    half, state = stepped_groups(GRADIENTS[:2])
    again, _ = stepped_groups(GRADIENTS[2:], [w.requires_grad_() for w in half], state)
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))


def test_a_fit_trains_the_groups_that_it_is_given_and_nothing_else():
    x = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
    split = Split.of(x, torch.arange(12) % 2)
    task = Task("t", ("a", "b"), split, split, split)
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fit = Fit(network, Training(epochs=1), task, 0, groups=[Group(list(network[1].parameters()))])
    assert [epoch.number for epoch in fit.run()] == [1]
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.weight", "1.bias"}
