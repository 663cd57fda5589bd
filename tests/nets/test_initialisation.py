import torch
from torch import nn

from stolon import nets
from stolon.nets.initialisation import renew, truncated_normal
from stolon.randomness import seeded


def test_a_fresh_tail_is_drawn_as_the_nets_was():
    staged = nets.split(nets.make("cifar-conv4", input_shape=(3, 8, 8)))
    before = staged.tail[2].weight.clone()
    with torch.no_grad():
        staged.tail[2].bias.fill_(9.0)
    with seeded(1, "tail", "t"):
        renew(staged.tail, staged)
    assert not torch.equal(before, staged.tail[2].weight)
    assert staged.tail[2].weight.abs().max() <= 0.1
    assert torch.equal(staged.tail[2].bias, torch.full((64,), 0.2))


def test_without_a_way_of_its_own_torchs_is_taken():
    tail = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4))
    net = nn.Sequential(nn.Linear(6, 6), tail)
    tail[2].running_mean.fill_(3.0)
    with seeded(1, "tail"):
        renew(tail, net)
    with seeded(1, "tail"):
        expected = nn.Linear(6, 4)
    assert torch.equal(tail[1].weight, expected.weight)
    assert torch.equal(tail[1].bias, expected.bias)
    assert torch.equal(tail[2].running_mean, torch.zeros(4))


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        return self.scale * self.inner(x)


def test_bare_parameters_keep_the_values_they_were_given():
    block = Scaled()
    before = block.inner.weight.clone()
    renew(block, nn.Sequential(block))
    assert block.scale == torch.tensor(0.7)
    assert not torch.equal(before, block.inner.weight)


def test_layers_without_bias_stay_without():
    layer = nn.Conv2d(1, 2, 3, bias=False)
    truncated_normal(layer)
    assert layer.bias is None
    assert layer.weight.abs().max() <= 0.1
