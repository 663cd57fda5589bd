"""The frozen network: what it is made of, and how it is called."""

import math

import pytest
import torch
from torch import nn

from stolon.errors import DataError, SettingError
from stolon.masks.frozen import FrozenNet


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3),
        nn.GroupNorm(2, 6),
        nn.ReLU(),
        nn.Flatten(),
    )


def test_lenet_has_the_weights_of_the_paper():
    frozen = FrozenNet("lenet-300-100", (1, 28, 28), 10)
    assert frozen.entries == (784 * 300, 300 * 100, 100 * 10)
    assert sum(frozen.entries) == 266_200


def test_nothing_but_weights_is_left():
    frozen = FrozenNet(convolutional(), (1, 8, 8), 5)
    assert frozen.names == ("0.0.weight", "0.3.weight", "1.weight")
    assert frozen._others == {}
    assert sorted(frozen.begin_statistics()) == [
        f"0.1.{n}" for n in ("num_batches_tracked", "running_mean", "running_var")
    ]


def test_weights_are_a_signed_constant():
    frozen = FrozenNet("mlp-64", (100,), 10)
    for weight in frozen.weights:
        constant = math.sqrt(2 / weight.shape[1])
        torch.testing.assert_close(weight.abs(), torch.full_like(weight, constant))
        assert 0.4 < (weight > 0).float().mean() < 0.6


def test_or_normal():
    (weight, _) = FrozenNet("mlp-200", (400,), 10, weights="kaiming-normal").weights
    assert weight.std() == pytest.approx(math.sqrt(2 / 400), rel=0.02)


def test_or_the_modules_own():
    net = convolutional()
    frozen = FrozenNet(net, (1, 8, 8), 5, weights="given")
    assert torch.equal(frozen.weights[0], net[0].weight)
    net[0].weight.data.zero_()
    assert frozen.weights[0].any()


def test_they_are_a_function_of_the_seed():
    one, same, other = (FrozenNet("mlp-8", (4,), 2, seed=seed).fingerprint() for seed in (0, 0, 1))
    assert one == same != other
    assert FrozenNet("mlp-8", (4,), 3).fingerprint() != one


def test_it_computes_what_the_network_does():
    frozen = FrozenNet(convolutional(), (1, 8, 8), 5)
    weights, x = [torch.randn(shape) for shape in frozen.shapes], torch.randn(6, 1, 8, 8)
    statistics = frozen.begin_statistics()
    found = frozen(x, weights, statistics, training=True)
    y = nn.functional.conv2d(x, weights[0])
    mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
    normed = (y - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
    y = nn.functional.conv2d(normed.relu(), weights[1])
    y = nn.functional.group_norm(y, 2).relu().flatten(1)
    torch.testing.assert_close(found, y @ weights[2].T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(statistics["0.1.running_mean"], 0.1 * mean)


@pytest.mark.parametrize("training", [True, False])
def test_many_networks_at_once_are_each_alone(training):
    frozen = FrozenNet(convolutional(), (1, 8, 8), 5)
    weights = [torch.randn(3, *shape) for shape in frozen.shapes]
    x = torch.randn(3, 6, 1, 8, 8)
    statistics = {name: torch.stack([value] * 3) for name, value in frozen.begin_statistics().items()}
    together = frozen.at_once(x, weights, statistics, training=training)
    for i in range(3):
        own = frozen.begin_statistics()
        alone = frozen(x[i], [layer[i] for layer in weights], own, training=training)
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)
        for name, value in own.items():
            torch.testing.assert_close(statistics[name][i], value)


def test_global_randomness_is_left_alone():
    torch.manual_seed(3)
    FrozenNet("lenet-300-100", (1, 28, 28), 10)
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(after, torch.rand(2))


def test_bad_inputs_are_refused():
    with pytest.raises(SettingError, match="outputs"):
        FrozenNet("mlp-8", (4,), 0)
    with pytest.raises(SettingError, match="layers to mask"):
        FrozenNet(nn.Flatten(), (4,), 2)
    with pytest.raises(DataError, match="expected inputs"):
        FrozenNet("mlp-8", (4,), 2).check(torch.zeros(1, 5))
    with pytest.raises(DataError, match="finite"):
        FrozenNet("mlp-8", (4,), 2).check(torch.full((1, 4), torch.inf))


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(4, 4), nn.Linear(4, 4)
        self.other.weight = self.one.weight

    def forward(self, x):
        return self.other(self.one(x).relu())


def test_weights_that_are_not_a_layers_own_are_refused():
    with pytest.raises(SettingError, match=r"0.one.weight and 0.other.weight to be one tensor"):
        FrozenNet(Tied(), (4,), 2)
    for computed in (nn.utils.parametrizations.weight_norm, nn.utils.spectral_norm):
        with pytest.raises(SettingError, match="parametrised"):
            FrozenNet(nn.Sequential(computed(nn.Linear(4, 4)), nn.ReLU()), (4,), 2)


def test_transposed_convolutions_are_masked_and_all_normalisation_is_bare():
    net = nn.Sequential(
        nn.ConvTranspose2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 8), nn.RMSNorm(8)
    )
    frozen = FrozenNet(net, (1, 8, 8), 3)
    assert frozen.names == ("0.0.weight", "0.3.weight", "1.weight")
    assert not frozen._others
    weights = [layer.clone().requires_grad_() for layer in frozen.weights]
    frozen(torch.rand(2, 1, 8, 8), weights, {}, training=True).square().sum().backward()
    assert all(layer.grad.abs().sum() > 0 for layer in weights)


@pytest.mark.parametrize(
    ("net", "shape", "outputs", "layers", "weights"),
    [
        ("fc-1024", (1, 28, 28), 10, 3, 784 * 1024 + 1024 * 1024 + 1024 * 10),
        ("gem-resnet18", (3, 32, 32), 5, 21, 1_090_940),
        ("resnet50", (3, 64, 64), 10, 54, 23_454_912 + 2048 * 10),
    ],
)
def test_the_papers_networks_are_masked_whole(net, shape, outputs, layers, weights):
    frozen = FrozenNet(net, shape, outputs)
    assert (len(frozen.names), sum(frozen.entries)) == (layers, weights)
    assert not frozen._others
    scores = frozen(torch.rand(2, *shape), frozen.weights, frozen.begin_statistics(), training=True)
    assert scores.shape == (2, outputs)
    assert bool(scores.isfinite().all())
