"""Patterns stored by Storkey's rule are attractors, and masks are found again by energy and entropy together."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.learner_contract import toy_task
from torch.nn.functional import cross_entropy

from stolon.errors import DataError, SettingError, StoreDamagedError, TaskError
from stolon.masks.fitting import MaskTraining
from stolon.masks.hopfield import (
    AS_RELEASED,
    GainNet,
    HopfieldStore,
    Recovery,
    capacity,
    gains_of,
    recover_gains,
    train_gains,
)
from stolon.randomness import permutation
from stolon.tasks import Split

FAST = MaskTraining(
    epochs=6, batch_size=12, learning_rate=0.1, optimizer="sgd", momentum=0.9, weight_decay=1e-4
)


def patterns(count, units, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count, units), generator=g) * 2.0 - 1


def filled(stored):
    store = HopfieldStore(stored.shape[1])
    for pattern in stored:
        store.add(pattern)
    return store


stored_patterns = st.builds(patterns, st.integers(1, 4), st.integers(2, 12), st.integers(0, 1000))


# The store


@given(stored_patterns)
def test_patterns_are_added_by_storkey_s_rule(stored):
    """Entry by entry, as the formula of the released code has it."""
    d = stored.shape[1]
    weights = [[0.0] * d for _ in range(d)]
    for z in stored.tolist():
        h = [sum(weights[i][k] * z[k] for k in range(d)) for i in range(d)]
        weights = [
            [weights[i][j] + (z[i] * z[j] - (i == j) - z[i] * h[j] - h[i] * z[j]) / d for j in range(d)]
            for i in range(d)
        ]
    store = filled(stored)
    torch.testing.assert_close(store.weights, torch.tensor(weights), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(store.mean, stored.mean(0))
    assert store.count == len(stored)


@given(stored_patterns, st.integers(0, 99))
def test_the_energy_is_the_double_sum(stored, seed):
    store = filled(stored)
    z = torch.randn(stored.shape[1], generator=torch.Generator().manual_seed(seed))
    terms = [store.weights[i, j] * z[i] * z[j] for i in range(store.units) for j in range(store.units)]
    torch.testing.assert_close(store.energy(z), -0.5 * sum(terms), rtol=1e-4, atol=1e-5)
    z.requires_grad_()
    (slope,) = torch.autograd.grad(store.energy(z), z)
    torch.testing.assert_close(slope, -(store.weights @ z.detach()), rtol=1e-4, atol=1e-5)


@given(stored_patterns, st.integers(0, 99))
def test_rest_is_where_no_flip_lowers_the_energy_and_it_never_rose(stored, seed):
    store = filled(stored)
    start = patterns(3, store.units, seed)
    found = store.recover(start)
    assert set(found.flatten().tolist()) <= {-1.0, 1.0}
    assert (store.energy(found) <= store.energy(start) + 1e-5).all()
    for z in found:
        flipped = z.repeat(store.units, 1)
        flipped.diagonal().mul_(-1)
        assert (store.energy(flipped) >= store.energy(z) - 1e-5).all()
    assert torch.equal(store.recover(found), found)


@given(st.integers(2, 12), st.integers(0, 999))
def test_plain_dynamics_flip_the_best_unit_first(units, seed):
    """Against flips that are tried one by one, on a matrix where no two are equally good."""
    g = torch.Generator().manual_seed(seed)
    drawn = torch.randn(units, units, generator=g)
    store = HopfieldStore(units)
    store.weights = drawn + drawn.T
    z = start = patterns(1, units, seed)[0]
    while True:
        flipped = z.repeat(units, 1)
        flipped.diagonal().mul_(-1)
        energies = store.energy(flipped)
        if energies.min() >= store.energy(z) - 1e-5:
            break
        z = flipped[energies.argmin()]
    assert torch.equal(store.recover(start), z)


def test_many_are_recovered_as_each_alone():
    store = filled(patterns(6, 64))
    starts = patterns(8, 64, seed=1)
    together = store.recover(starts.view(2, 4, 64))
    assert together.shape == (2, 4, 64)
    for start, found in zip(starts, together.view(8, 64), strict=True):
        assert torch.equal(store.recover(start), found)


@pytest.mark.parametrize("seed", range(3))
def test_a_few_patterns_are_recovered_exactly_from_a_tenth_flipped(seed):
    stored = patterns(8, 128, seed)
    store = filled(stored)
    g = torch.Generator().manual_seed(seed)
    for pattern in stored:
        start = pattern.clone()
        start[torch.randperm(128, generator=g)[:13]] *= -1
        assert torch.equal(store.recover(start), pattern)


def test_an_empty_store_leaves_everything_where_it_is():
    store = HopfieldStore(5)
    start = patterns(3, 5)
    assert torch.equal(store.recover(start), start)
    assert store.mean.tolist() == [0] * 5
    assert store.recover(start[:0]).shape == (0, 5)


def test_a_store_that_is_too_full_fails():
    assert capacity(64, 4, 0.1) == 1
    assert capacity(64, 64, 0.1) < 0.5


@pytest.mark.parametrize(
    ("share", "noise", "expected"),
    [(32, 0.1, 1), (8, 0.1, 1), (8, 0.2, 1), (4, 0, 0.97), (4, 0.1, 0.95), (4, 0.2, 0.72), (2, 0.1, 0.43)],
)
def test_the_documented_capacity_is_what_is_measured(share, noise, expected):
    assert capacity(256, 256 // share, noise) == pytest.approx(expected, abs=0.02)


def test_capacity_is_the_share_recovered_from_as_many_flips_as_said():
    """All flipped is the mirror image, which is an attractor too, and never the pattern."""
    assert capacity(32, 2, 1.0) == 0
    assert capacity(32, 2, 0.0) == 1
    assert capacity(128, 40, 0.1, seed=1) == capacity(128, 40, 0.1, seed=1)
    assert len({capacity(128, 40, 0.1, seed=seed) for seed in range(4)}) > 1


def test_a_store_is_saved_and_loaded():
    store = filled(patterns(3, 16))
    again = HopfieldStore(16)
    state = store.state()
    again.load(state)
    store.add(patterns(1, 16, seed=9)[0])
    again.add(patterns(1, 16, seed=9)[0])
    assert again.state().keys() == state.keys()
    for name, value in store.state().items():
        assert torch.equal(value, again.state()[name])
    for damaged in ({}, HopfieldStore(8).state(), {**state, "more": torch.zeros(1)}):
        with pytest.raises(StoreDamagedError, match="16 units"):
            again.load(damaged)
    for damaged in ({**state, "total": state["total"] * torch.nan}, {**state, "count": torch.tensor(-1)}):
        with pytest.raises(StoreDamagedError, match="finite"):
            again.load(damaged)
    assert again.count == 4


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (torch.ones(3), r"patterns \[..., 4\]"),
        (torch.tensor(1.0), r"patterns \[..., 4\]"),
        (torch.zeros(4), "-1 and 1"),
        (torch.tensor([1.0, -1.0, 1.0, torch.nan]), "-1 and 1"),
        (torch.ones(4, dtype=torch.bool), "-1 and 1"),
    ],
)
def test_other_patterns_are_refused_and_nothing_changes(pattern, message):
    store = filled(patterns(1, 4))
    before = store.state()
    for verb in (store.add, store.recover):
        with pytest.raises(DataError, match=message):
            verb(pattern)
    with pytest.raises(DataError, match="one pattern"):
        store.add(torch.ones(2, 4))
    assert all(torch.equal(value, before[name]) for name, value in store.state().items())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HopfieldStore(1), "units"),
        (lambda: HopfieldStore(2.5), "units"),
        (lambda: capacity(8, 0, 0.1), "patterns"),
        (lambda: capacity(8, 2, 1.5), "noise"),
        (lambda: GainNet(0, 2), "inputs"),
        (lambda: GainNet(2, 0), "outputs"),
        (lambda: GainNet(2, 2, width=1), "width"),
        (lambda: GainNet(2, 2, hidden=0), "hidden"),
        (lambda: Recovery(gamma=-1), "gamma"),
        (lambda: Recovery(batch_size=1), "batch_size"),
        (lambda: Recovery(learning_rate=0), "learning_rate"),
    ],
)
def test_settings_out_of_range_are_refused(call, message):
    with pytest.raises(SettingError, match=message):
        call()


# The network


@pytest.mark.parametrize("hidden", [1, 2, 3])
def test_the_network_is_linear_normalised_gained_and_swished(hidden):
    net = GainNet(6, 3, width=5, hidden=hidden, seed=2)
    x = torch.rand(7, 2, 3)
    gains = [torch.rand(5) for _ in range(hidden)]
    found = x.flatten(1)
    for weight, gain in zip(net.weights, gains, strict=False):
        found = found @ weight.T
        found = gain * (found - found.mean(0)) / (found.var(0, unbiased=False) + 1e-5).sqrt()
        found = found * found.sigmoid()
    torch.testing.assert_close(net(x, gains), found @ net.weights[-1].T)
    for weight in net.weights:
        assert weight.abs().unique().tolist() == pytest.approx([(2 / weight.shape[1]) ** 0.5])
        assert not weight.requires_grad
        assert 0 < (weight > 0).sum() < weight.numel()


def test_a_unit_with_gain_nought_is_off():
    net, x = GainNet(6, 3, width=8, hidden=1), torch.rand(9, 6)
    gain = torch.ones(8)
    gain[3] = 0
    before = net(x, [gain])
    net.weights[1][:, 3] = 100
    assert torch.equal(net(x, [gain]), before)
    assert not torch.equal(net(x, [torch.ones(8)]), before)


def test_the_networks_weights_are_a_function_of_the_seed():
    one, same, other = GainNet(6, 3, width=8), GainNet(6, 3, width=8), GainNet(6, 3, width=8, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.weights, same.weights, strict=True))
    assert not torch.equal(one.weights[0], other.weights[0])


@pytest.mark.parametrize("shape", [(1, 6), (4, 5), (0, 6)])
def test_other_inputs_are_refused(shape):
    net = GainNet(6, 3, width=8)
    with pytest.raises(DataError, match="two inputs of 6"):
        net(torch.rand(shape), [torch.ones(8)] * 2)


# Training


def test_gains_are_trained_by_edge_popup():
    """Against a loop with its own momentum: scores of a unit take the gradient of its gain."""
    net, task = GainNet(64, 3, width=24), toy_task("t", 1)
    training = MaskTraining(
        epochs=1, batch_size=20, learning_rate=0.3, optimizer="sgd", momentum=0.9, weight_decay=0.01
    )
    found = train_gains(net, task.train, training, seed=5)
    scores, speed = [torch.zeros(24)] * 2, [torch.zeros(24)] * 2
    for indices in permutation(48, 5, "order", "gains", 0).split(20):
        x, y = task.train.batch(indices)
        gains = [(layer >= 0).float().requires_grad_() for layer in scores]
        slopes = torch.autograd.grad(cross_entropy(net(x, gains), y), gains)
        speed = [
            0.9 * v + slope + 0.01 * layer for v, slope, layer in zip(speed, slopes, scores, strict=True)
        ]
        scores = [layer - 0.3 * v for layer, v in zip(scores, speed, strict=True)]
    for pattern, layer in zip(found, scores, strict=True):
        assert torch.equal(pattern, torch.where(layer >= 0, 1.0, -1.0))
        assert 0 < (pattern > 0).sum() < 24


def test_tasks_are_learned_with_labels_shared_or_not():
    net, task = GainNet(64, 7, width=128), toy_task("t", 1)
    x, y = task.test.batch(torch.arange(24))
    for first in (0, 4):
        gains = gains_of(train_gains(net, task.train, FAST, first_output=first))
        assert (net(x, gains).argmax(1) == y + first).float().mean() > 0.9


def test_training_begins_where_it_is_told_and_leaves_that_alone():
    net, task = GainNet(64, 3, width=16), toy_task("t", 1)
    start = [torch.full((16,), -5.0), torch.full((16,), 5.0)]
    # 48 samples: the one that is left over, which has no variance, joins those before it
    slow = MaskTraining(learning_rate=1e-6, optimizer="sgd", batch_size=47, epochs=1)
    found = train_gains(net, task.train, slow, start=start)
    assert [pattern.unique().tolist() for pattern in found] == [[-1.0], [1.0]]
    assert start[0].unique().tolist() == [-5.0]


def test_the_seed_decides_the_order():
    net, task = GainNet(64, 3, width=64), toy_task("t", 1)
    one, same, other = (train_gains(net, task.train, FAST, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_labels_beyond_the_outputs_and_losses_that_are_not_finite_are_refused():
    net, task = GainNet(64, 3, width=16), toy_task("t", 1)
    for first in (-1, 1):
        with pytest.raises(DataError, match="outputs 0 to 2"):
            train_gains(net, task.train, FAST, first_output=first)
    negative = Split.of(torch.rand(4, 64), torch.tensor([0, 1, -2, 1]))
    with pytest.raises(DataError, match="outputs 0 to 2, found -1 to 2"):
        train_gains(net, negative, FAST, first_output=1)
    with pytest.raises(DataError, match="training data"):
        train_gains(net, Split.of(torch.zeros(0, 64), torch.zeros(0, dtype=torch.int64)), FAST)
    for start in ([], [torch.zeros(16)], [torch.zeros(16), torch.zeros(8)]):
        with pytest.raises(DataError, match=r"start: expected one vector \[16\] for each of 2 hidden layers"):
            train_gains(net, task.train, FAST, start=start)
    with pytest.raises(DataError, match=r"gains: expected one vector \[16\]"):
        net(torch.rand(4, 64), [torch.ones(16)])
    huge = Split.of(torch.full((8, 64), 3e38) * (torch.rand(8, 64) - 0.5).sign(), torch.arange(8) % 3)
    with pytest.raises(TaskError, match="finite"):
        train_gains(net, huge, FAST)


# Recovery


@pytest.fixture(scope="module")
def learned():
    """Three tasks with outputs of their own, and a store for each layer."""
    net = GainNet(64, 9, width=256)
    tasks = [toy_task(str(i), i) for i in range(3)]
    stores = [HopfieldStore(256), HopfieldStore(256)]
    masks = []
    for i, task in enumerate(tasks):
        masks.append(train_gains(net, task.train, FAST, first_output=3 * i))
        for store, pattern in zip(stores, masks[-1], strict=True):
            store.add(pattern)
    return net, tasks, stores, masks


def test_an_unnamed_tasks_mask_is_found_again_exactly(learned):
    net, tasks, stores, masks = learned
    for i, (task, mask) in enumerate(zip(tasks, masks, strict=True)):
        x, _ = task.train.batch(torch.arange(48))
        found = recover_gains(net, stores, x, Recovery(epochs=15, batch_size=16))
        settled = [store.recover(pattern) for store, pattern in zip(stores, found, strict=True)]
        assert all(torch.equal(a, b) for a, b in zip(settled, mask, strict=True))
        x, y = task.test.batch(torch.arange(24))
        assert (net(x, gains_of(found)).argmax(1) == y + 3 * i).float().mean() > 0.9


def test_recovery_goes_down_energy_and_entropy_with_their_weights(learned):
    """Against a loop with its own gradients, momentum and decay."""
    net, tasks, stores, _ = learned
    x, _ = tasks[1].train.batch(torch.arange(46))
    how = Recovery(batch_size=15, learning_rate=40.0, gamma=0.01, weight_decay=1e-3)
    found = recover_gains(net, stores, x, how)
    scores, speed = [store.mean for store in stores], [torch.zeros(256)] * 2
    for b in range(1, 4):  # the fourth mini-batch has one input
        part = x[15 * (b - 1) : 15 * b]
        gains = [(layer >= 0).float().requires_grad_() for layer in scores]
        shares = net(part, gains).softmax(1)
        entropy = torch.autograd.grad(-(shares * shares.log()).sum(1).mean(), gains)
        for layer, store in enumerate(stores):
            z = 2 * gains[layer].detach() - 1
            slope = (1 - b / 3) * entropy[layer] + 0.01 * b / 3 * 2 * -(store.weights @ z)
            speed[layer] = 0.9 * speed[layer] + slope + 1e-3 * scores[layer]
        scores = [layer - 40 * v for layer, v in zip(scores, speed, strict=True)]
    for pattern, layer in zip(found, scores, strict=True):
        sure = layer.abs() > 1e-3  # rounding may turn the others
        assert sure.float().mean() > 0.95
        assert torch.equal(pattern[sure], layer.sign()[sure])
        assert not torch.equal(pattern[sure], stores[0].mean.sign()[sure])


def test_recovery_leaves_the_stores_alone(learned):
    net, tasks, stores, _ = learned
    before = [store.state() for store in stores]
    x, _ = tasks[0].train.batch(torch.arange(20))
    one, same = recover_gains(net, stores, x), recover_gains(net, stores, x)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    for store, state in zip(stores, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in store.state().items())


def test_stores_that_do_not_fit_and_too_few_inputs_are_refused(learned):
    net, tasks, stores, _ = learned
    x, _ = tasks[0].train.batch(torch.arange(4))
    for wrong in (stores[:1], [stores[0], HopfieldStore(256)], [HopfieldStore(8)] * 2):
        with pytest.raises(SettingError, match="2 stores of 256 units"):
            recover_gains(net, wrong, x)
    for few in (x[:1], x[:0], x[:, :, :4]):
        with pytest.raises(DataError, match="two inputs"):
            recover_gains(net, stores, few)
    with pytest.raises(TaskError, match="finite"):
        recover_gains(net, stores, torch.full((4, 64), torch.nan))


def test_the_released_settings_have_names():
    assert (AS_RELEASED.epochs, AS_RELEASED.batch_size, AS_RELEASED.optimizer) == (1, 128, "sgd")
    assert (AS_RELEASED.learning_rate, AS_RELEASED.momentum, AS_RELEASED.weight_decay) == (0.1, 0.9, 1e-4)
    how = Recovery()
    assert (how.learning_rate, how.momentum, how.weight_decay) == (500, 0.9, 1e-4)
    assert (how.gamma, how.batch_size, how.epochs, how.optimizer) == (1.5e-3, 64, 1, "sgd")
    assert GainNet(4, 2).width == 2048
