"""Edge-popup against its formula."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import SettingError
from stolon.masks.popup import MaskRule, begin_scores, masked


def naive_mask(scores, rule):
    """By sorting all scores."""
    if rule.rule == "nonnegative":
        return (scores >= 0).float()
    ranking = scores.abs() if rule.magnitude else scores
    order = ranking.flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(scores.numel())
    mask[order[: rule.keep(scores.shape)]] = 1
    mask = mask.view(scores.shape)
    return mask * {"binary": torch.ones_like(scores), "signed": scores.sign(), "real": scores}[rule.values]


RULES = [
    MaskRule(density=0.3),
    MaskRule(density=0.3, magnitude=False),
    MaskRule(rule="nonnegative"),
    MaskRule(density=0.3, values="signed"),
    MaskRule(density=0.3, values="real"),
    MaskRule(density=4.0, densities="erdos-renyi"),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("shape", [(7, 11), (4, 3, 3, 3)])
def test_forwards_the_weight_is_masked(rule, shape):
    scores, weight = torch.randn(shape), torch.randn(shape)
    torch.testing.assert_close(masked(scores, weight, rule), weight * naive_mask(scores, rule))


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_backwards_the_mask_is_the_scores_themselves(rule):
    """Straight through: d L / d S = W * d L / d (W M), times the sign of S where magnitudes are ranked."""
    scores, weight = torch.randn(7, 11, requires_grad=True), torch.randn(7, 11)
    arriving = torch.randn(7, 11)
    masked(scores, weight, rule).backward(arriving)
    expected = arriving * weight
    if rule.rule == "top" and rule.magnitude and rule.values == "binary":
        expected = expected * scores.detach().sign()
    torch.testing.assert_close(scores.grad, expected)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_stacked_scores_have_masks_of_their_own(rule):
    scores, weight = torch.randn(5, 7, 11, requires_grad=True), torch.randn(7, 11)
    arriving = torch.randn(5, 7, 11)
    together = masked(scores, weight, rule)
    together.backward(arriving)
    for i in range(5):
        alone = scores[i].detach().clone().requires_grad_()
        one = masked(alone, weight, rule)
        one.backward(arriving[i])
        assert torch.equal(one, together[i])
        assert torch.equal(alone.grad, scores.grad[i])


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0.001, 1))
def test_as_many_are_kept_as_the_released_code_keeps(outputs, inputs, density):
    rule, n = MaskRule(density=density), outputs * inputs
    assert rule.keep((outputs, inputs)) == n - int((1 - density) * n)
    assert int(rule.mask(torch.randn(outputs, inputs)).sum()) == rule.keep((outputs, inputs))


def test_erdos_renyi_is_min_of_a_half_and_s_over_the_layers_size():
    rule = MaskRule(density=2.0, densities="erdos-renyi")
    n = 20 * 40 * 9
    assert rule.keep((20, 40, 3, 3)) == n - int((1 - 2 * 60 / n) * n)
    assert rule.keep((4, 4)) == 8


def test_scaled_weights_keep_the_size_of_signals():
    rule = MaskRule(density=0.1, scaled=True)
    assert rule.scale((100, 100)) == pytest.approx(math.sqrt(10))
    assert MaskRule(rule="nonnegative", scaled=True).scale((3, 3)) == pytest.approx(math.sqrt(2))
    assert MaskRule(density=0.1).scale((100, 100)) == 1


def test_first_scores_are_uniform_as_torch_draws_weights():
    scores = begin_scores((200, 400), MaskRule(), 0, "t", 0)
    assert scores.abs().max() <= 1 / 20
    assert scores.mean().abs() < 1e-3
    assert scores.std() == pytest.approx(1 / 20 / math.sqrt(3), rel=0.02)
    assert torch.equal(scores, begin_scores((200, 400), MaskRule(), 0, "t", 0))
    assert not torch.equal(scores, begin_scores((200, 400), MaskRule(), 0, "u", 0))
    assert not torch.equal(scores, begin_scores((200, 400), MaskRule(), 1, "t", 0))
    assert begin_scores((200, 400), MaskRule(values="real"), 0).std() == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("rule", [MaskRule(), MaskRule(magnitude=False), MaskRule("nonnegative")])
def test_scores_that_are_no_numbers_are_refused(rule, bad):
    scores = torch.randn(4, 4)
    scores[1, 2] = bad
    with pytest.raises(SettingError, match="finite"):
        rule.mask(scores)
