import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from stolon.errors import SettingError
from stolon.measure import Cost, Macs, Stored, cost, flop_counter, macs, parallel_efficiency, stored

small = st.integers(1, 5)


@given(small, small, small, small)
@settings(max_examples=20, deadline=None)
def test_a_linear_layer_is_counted_as_by_hand(batch, inputs, outputs, hidden):
    """B*D*F forward and for the weights' gradient; the inputs' gradient only where something below learns."""
    assert macs(nn.Linear(inputs, outputs), (inputs,), batch=batch) == Macs(*[batch * inputs * outputs] * 2)
    deep = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    first, second = batch * inputs * hidden, batch * hidden * outputs
    assert macs(deep, (inputs,), batch=batch) == Macs(first + second, first + 2 * second)


@given(small, small, small, st.sampled_from([1, 3]), st.sampled_from([1, 2]))
@settings(max_examples=20, deadline=None)
def test_a_convolution_is_counted_as_by_hand(batch, inputs, outputs, kernel, stride):
    side = 7
    layer = nn.Conv2d(inputs, outputs, kernel, stride=stride)
    out = (side - kernel) // stride + 1
    by_hand = batch * outputs * out * out * inputs * kernel * kernel
    assert macs(layer, (inputs, side, side), batch=batch) == Macs(by_hand, by_hand)


def two_convolutions() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 16, 2)
    )


FIRST, SECOND, HEAD = 4 * 6 * 6 * 3 * 9, 5 * 4 * 4 * 4 * 9, 5 * 16 * 2


def test_a_frozen_backbone_under_a_trained_head_costs_no_gradients():
    network = two_convolutions().requires_grad_(False)
    network[4].requires_grad_(True)
    assert macs(network, (3, 8, 8)) == Macs(FIRST + SECOND + HEAD, HEAD)


def test_trained_biases_in_a_frozen_backbone_cost_the_gradients_that_pass_through_it():
    network = two_convolutions().requires_grad_(False)
    for layer in (network[0], network[2], network[4]):
        layer.bias.requires_grad_(True)
    assert macs(network, (3, 8, 8)) == Macs(FIRST + SECOND + HEAD, SECOND + HEAD)


def test_everything_frozen_has_no_backward_pass():
    assert macs(nn.Linear(3, 2).requires_grad_(False), (3,)) == Macs(6, 0)


def test_counting_on_the_meta_device_is_counting_the_real_thing():
    network = two_convolutions()
    with flop_counter() as real:
        network(torch.randn(2, 3, 8, 8)).sum().backward()
    assert macs(network, (3, 8, 8), batch=2).total == real.get_total_flops() // 2


def test_counting_leaves_the_network_as_it_was():
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    before, seed = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    macs(network, (4,), batch=2)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None and p.device.type == "cpu" for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), seed)


class Attention(nn.Module):
    def forward(self, x):
        return scaled_dot_product_attention(x, x, x)


def test_attention_on_the_cpu_is_counted_too():
    """2 * L * L * E per head: scores, then the mix of values; backward those of both factors, and again."""
    x, by_hand = torch.randn(1, 2, 8, 4, requires_grad=True), 2 * 2 * 8 * 8 * 4
    with flop_counter() as counter:
        answer = Attention()(x)
    assert counter.get_total_flops() // 2 == by_hand
    assert macs(Attention(), (2, 8, 4)).forward == by_hand
    with flop_counter() as counter:
        answer.sum().backward()
    assert counter.get_total_flops() // 2 == 5 * by_hand // 2  # the scores are computed once more


def test_counting_does_not_change_what_is_computed():
    results = []
    for counted in (False, True):
        network = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
        for parameter in network.parameters():
            torch.manual_seed(parameter.numel())
            nn.init.normal_(parameter)
        x = torch.linspace(-1, 1, 24).reshape(4, 6)
        if counted:
            with flop_counter():
                network(x).square().sum().backward()
        else:
            network(x).square().sum().backward()
        results.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("network", [nn.Linear(3, 2), nn.LSTM(4, 2)])
def test_a_network_that_cannot_be_called_like_this_is_refused(network):
    with pytest.raises(SettingError, match="network"):
        macs(network, (4, 4))


def test_cost_counts_every_step_of_every_epoch():
    layer = nn.Linear(10, 5)
    assert cost(layer, (10,), samples=100, batch_size=30, epochs=3) == Cost(3 * 100 * 50, 3 * 100 * 50)
    assert cost(layer, (10,), samples=0) == Cost()
    assert cost(layer, (10,), samples=2, stored=7, sent=3, alpha=10) == Cost(100, 100, 7, 3, 10)


class MadeOnce(nn.Module):
    """Makes its weights from factors at every step, however many inputs there are."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(3, 5))

    def forward(self, x):
        return x @ (self.left @ self.right)


def test_what_a_step_does_once_is_counted_once_per_step():
    found = cost(MadeOnce(), (4,), samples=10, batch_size=4)
    assert found.forward == 3 * 4 * 3 * 5 + 10 * 4 * 5


@pytest.mark.parametrize("wrong", [{"samples": -1}, {"epochs": -1}, {"batch_size": 0}, {"alpha": -1.0}])
def test_costs_out_of_range_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        cost(nn.Linear(2, 2), (2,), **wrong)


counts = st.integers(0, 10**6)
costs = st.builds(Cost, counts, counts, counts, counts)


@given(costs, costs, st.integers(0, 10))
def test_costs_add_up(a, b, n):
    assert a + b == b + a
    assert (a + b).total == pytest.approx(a.total + b.total)
    assert (n * a).total == pytest.approx(n * a.total)
    assert a.macs == a.forward + a.backward


def test_costs_of_different_alpha_do_not_add():
    with pytest.raises(SettingError, match="alpha"):
        Cost(alpha=1) + Cost(alpha=2)


@given(counts, st.dictionaries(st.text(max_size=3), counts, max_size=4))
def test_stored_bytes_add_up(shared, per_task):
    found = stored(shared + sum(per_task.values()), per_task)
    assert found == Stored(shared, per_task)
    assert found.total == shared + sum(per_task.values())


def test_tasks_that_take_more_than_everything_are_refused():
    with pytest.raises(SettingError, match="total_bytes"):
        stored(20, {"a": 21})
    with pytest.raises(SettingError, match="a: expected at least 0"):
        stored(20, {"a": -1})


@pytest.mark.parametrize(
    ("macs_alone", "received", "student", "agents", "expected"),
    [
        (1.73e16, 6.72e9, 5e9, 102, 0.962),  # Mahalanobis, no biases
        (1.73e16, 6.72e9, 5e9, 51, 0.981),
        (1.73e16, 8.22e7, 0, 102, 0.9995),  # Gaussian mixtures, no biases
        (1.73e16, 8.22e7, 0, 51, 0.9998),
    ],
)
def test_parallel_efficiency_of_the_papers_figure_10_by_its_own_definition(
    macs_alone, received, student, agents, expected
):
    found = parallel_efficiency(macs_alone, agents=agents, sent_bytes=received, student_macs=student)
    assert found == pytest.approx(expected, abs=0.5 * 10 ** -len(str(expected).split(".")[1]))


@pytest.mark.parametrize(("received", "student"), [(1.03e8, 0), (6.74e9, 5e9)])
def test_with_biases_the_efficiency_is_above_0_999(received, student):
    assert parallel_efficiency(1.56e18, agents=102, sent_bytes=received, student_macs=student) > 0.999


def test_the_papers_bytes_per_task_follow_from_its_shapes():
    """Section 6 and supplement G: a head, 25 Gaussians over 2048 features, 50,312 biases; 101 received."""
    head, mixture, biases = 49.34 * 2048 * 4, 25 * (2048 + 2048) * 4, 50_312 * 4
    assert 101 * (head + mixture) == pytest.approx(8.22e7, rel=1e-3)
    assert 101 * (head + mixture + biases) == pytest.approx(1.03e8, rel=1e-2)
    images = 5 * 49.34 * 299 * 299 * 3
    assert 101 * (images + head) == pytest.approx(6.72e9, rel=2e-3)


@given(st.floats(1, 1e18), st.integers(1, 100), st.floats(0, 1e6))
def test_efficiency_is_one_without_overhead_and_never_more(alone, agents, sent):
    assert parallel_efficiency(alone, agents=agents, sent_bytes=0) == pytest.approx(1)
    assert parallel_efficiency(alone, agents=agents, sent_bytes=sent) <= 1 + 1e-9


@pytest.mark.parametrize(
    "wrong", [{"agents": 0}, {"sent_bytes": -1}, {"student_macs": -1}, {"teacher_macs": -1}, {"alpha": -1}]
)
def test_an_efficiency_of_impossible_values_is_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        parallel_efficiency(1e9, **({"agents": 2, "sent_bytes": 0} | wrong))


def test_no_work_has_no_efficiency():
    with pytest.raises(SettingError, match="single_macs"):
        parallel_efficiency(0, agents=1, sent_bytes=0)
    with pytest.raises(SettingError, match="teacher_macs"):
        parallel_efficiency(1, agents=1, sent_bytes=0, teacher_macs=0)
