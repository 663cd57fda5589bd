"""Shapes and counts against the papers' tables (papers/methods.md 1.5)."""

import pytest
import torch

from stolon import nets
from stolon.errors import SettingError
from stolon.nets.stages import split
from stolon.transfer.mechanisms import Deconvolution

# net, image -> per layer (k, C_in, C_out), (h, c_kb), c_ts: the papers' table
TABLE = {
    "cifar-conv4": (
        (3, 32, 32),
        [(3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64)],
        [(2, 16), (2, 24), (2, 32), (2, 36)],
        [24, 48, 64, 72],
    ),
    "office-conv4": (
        (3, 128, 128),
        [(11, 3, 64), (5, 64, 256), (3, 256, 256), (3, 256, 256)],
        [(6, 24), (3, 64), (2, 64), (2, 64)],
        [48, 128, 128, 128],
    ),
    "stl-conv6": (
        (3, 96, 96),
        [(3, 3, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128)],
        [(2, 12), (2, 24), (2, 32), (2, 48), (2, 64), (2, 96)],
        [24, 48, 64, 96, 128, 192],
    ),
    "stl-conv9": (
        (3, 96, 96),
        [(3, 3, 32), (3, 32, 32), (3, 32, 32), (3, 32, 64), (3, 64, 64), (3, 64, 64), (3, 64, 128), (3, 128, 128),
         (3, 128, 128)],
        [(2, 12), (2, 24), (2, 24), (2, 32), (2, 48), (2, 48), (2, 64), (2, 96), (2, 96)],
        [24, 48, 48, 64, 96, 96, 128, 192, 192],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_the_papers_nets_have_the_shapes_of_the_papers_table(name):
    shape, kernels, bases, channels = TABLE[name]
    with torch.device("meta"):
        stages = list(split(nets.make(name, input_shape=shape)))
    weights = [dict(stage.named_parameters())[stage.kernels[0]].shape for stage in stages]
    assert [(k, c_in, c_out) for c_out, c_in, k, _ in weights] == kernels
    mechanism, g = Deconvolution(weights), torch.Generator()
    for i, ((k, c_in, c_out), (h, c_kb), c_ts) in enumerate(zip(kernels, bases, channels, strict=True)):
        initial = torch.zeros(c_out, c_in, k, k)
        shared, factors = mechanism.shared(i, initial, g), mechanism.factors(i, initial, g)
        assert {key: tuple(value.shape) for key, value in shared.items()} == {"base": (1, c_kb, h, h)}
        assert {key: tuple(value.shape) for key, value in factors.items()} == {
            "deconvolution": (c_kb, c_ts, 3, 3),
            "deconvolution_bias": (c_ts,),
            "contraction": (c_ts, c_in, c_out),
        }
        assert mechanism.kernel(i, shared, factors).shape == initial.shape


def test_what_the_cifar_net_shares_and_what_a_task_has_of_its_own_add_up():
    _, kernels, bases, channels = TABLE["cifar-conv4"]
    mechanism, g = Deconvolution([torch.Size((o, i, k, k)) for k, i, o in kernels]), torch.Generator()
    initials = [torch.zeros(o, i, k, k) for k, i, o in kernels]
    shared = sum(t.numel() for i, w in enumerate(initials) for t in mechanism.shared(i, w, g).values())
    own = sum(t.numel() for i, w in enumerate(initials) for t in mechanism.factors(i, w, g).values())
    assert shared == 4 * (16 + 24 + 32 + 36)
    pairs = zip(kernels, bases, channels, strict=True)
    assert own == sum(9 * c_kb * c_ts + c_ts + c_ts * i * o for (_, i, o), (_, c_kb), c_ts in pairs)


@pytest.mark.parametrize("k", [1, 3, 5, 7, 9, 11])
def test_a_base_of_half_the_size_becomes_exactly_the_kernels_size(k):
    mechanism, g = Deconvolution([torch.Size((2, 3, k, k))]), torch.Generator()
    initial = torch.zeros(2, 3, k, k)
    shared = mechanism.shared(0, initial, g)
    assert shared["base"].shape[2:] == ((k + 1) // 2,) * 2
    assert mechanism.kernel(0, shared, mechanism.factors(0, initial, g)).shape == (2, 3, k, k)


def test_other_nets_follow_the_papers_rule():
    with torch.device("meta"):
        stages = list(split(nets.make("resnet18-plain", input_shape=(3, 32, 32))))
    shapes = [dict(s.named_parameters())[name].shape for s in stages for name in s.kernels]
    assert len(shapes) == 17
    mechanism, g = Deconvolution(shapes), torch.Generator()
    for i, (c_out, c_in, k, _) in enumerate(shapes):
        base = mechanism.shared(i, torch.zeros(c_out, c_in, k, k), g)["base"]
        assert base.shape == (1, round((c_in + c_out) / 3), (k + 1) // 2, (k + 1) // 2)


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (4, 3, 3, 5), (4, 3, 3), (4, 3), (4, 3, 3, 3, 3)])
def test_weights_that_no_deconvolution_gives_are_refused(shape):
    with pytest.raises(SettingError, match=r"expected kernels .*odd.*found .*tensor-factorization"):
        Deconvolution([torch.Size((4, 3, 3, 3)), torch.Size(shape)])


def test_draws_are_glorots_as_tensorflow_counts_fans():
    g = torch.Generator().manual_seed(0)
    shape = torch.Size((128, 96, 3, 3))
    mechanism = Deconvolution([shape])
    initial = torch.full(shape, 9.0)
    factors = mechanism.factors(0, initial, g)
    c_kb, c_ts = factors["deconvolution"].shape[:2]
    assert float(factors["deconvolution"].var()) == pytest.approx(2 / (9 * (c_kb + c_ts)), rel=0.05)
    # TensorFlow: of [c_ts, C_in, C_out] the last two are channels, the first the receptive field
    assert float(factors["contraction"].var()) == pytest.approx(2 / (c_ts * (96 + 128)), rel=0.05)
    base = torch.cat([mechanism.shared(0, initial, g)["base"].flatten() for _ in range(50)])
    assert float(base.var()) == pytest.approx(2 / (2 * 2 + 2 * c_kb), rel=0.05)  # [1, h, h, c_kb]
