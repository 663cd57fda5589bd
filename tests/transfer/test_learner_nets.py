"""Nets and data of all kinds."""

import pytest
import torch
from tests.learner_contract import assert_same_state
from tests.transfer.making import make, method, random_task, tiny
from torch import nn

from stolon.errors import SettingError
from stolon.tasks import Split, Task

ODD = {
    "one convolution": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()), (1, 8, 8)),
    "one dimension": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(inplace=True), nn.Conv1d(4, 4, 3), nn.Flatten()),
        (2, 9),
    ),
    "groups of channels": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(inplace=True), nn.Conv2d(4, 8, 3, groups=4),
                              nn.ELU(inplace=True), nn.Flatten()),
        (2, 8, 8),
    ),
    "dropout between convolutions": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(4, 4, 3), nn.ReLU(),
                              nn.Flatten()),
        (1, 8, 8),
    ),
    "leading pooling": (
        lambda: nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.Flatten()),
        (1, 8, 8),
    ),
    "batch norm and dropout": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Conv2d(4, 4, 3),
                              nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        (1, 8, 8),
    ),
    "instance norm that remembers": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
                              nn.ReLU(), nn.Flatten()),
        (1, 8, 8),
    ),
    "batch norm that remembers nothing": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU(),
                              nn.Flatten()),
        (1, 8, 8),
    ),
    "batch norm in the tail": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8),
                              nn.ReLU()),
        (1, 8, 8),
    ),
    "channels last": (lambda: tiny().to(memory_format=torch.channels_last), (1, 8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("which", ["static", "lasem", "exact", "darts"])
def test_odd_nets_learn_and_resume_without_touching_global_randomness(which, name, tmp_path):
    make_net, shape = ODD[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make_net()
    task = random_task(shape=shape)
    whole, stopped = method(which, net=lambda: net), method(which, net=lambda: net)
    torch.manual_seed(1)
    list(whole.learn(task))
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))
    torch.manual_seed(2)
    next(stopped.learn(task))
    stopped.save(tmp_path)
    torch.manual_seed(3)
    stopped = method(which, net=lambda: net).load(tmp_path)
    list(stopped.learn(task))
    assert_same_state(whole, stopped)


@pytest.mark.parametrize("which", ["static", "lasem", "exact", "brute-force", "darts"])
def test_one_sample_is_enough(which):
    one = Split.of(torch.rand(1, 1, 8, 8), torch.tensor([0]))
    learner = method(which, batch_size=100)
    list(learner.learn(Task("t", ("a", "b"), one, one, one)))
    assert learner.logits(torch.rand(2, 1, 8, 8), "t").shape == (2, 2)


def test_bytes_and_doubles_give_what_floats_give():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (16, 1, 8, 8), generator=g, dtype=torch.uint8)
    y, found = torch.arange(16) % 2, []
    for x in (images, images.float() / 255, images.double() / 255):
        split, learner = Split.of(x, y), method("lasem")
        list(learner.learn(Task("t", ("a", "b"), split, split, split)))
        found.append(learner.logits(x, "t"))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


def test_no_images_have_no_answers():
    learner = method("static")
    list(learner.learn(random_task()))
    assert learner.logits(torch.zeros(0, 1, 8, 8), "t").shape == (0, 3)


def test_asking_does_not_change_what_was_asked():
    learner = method("static")
    list(learner.learn(random_task()))
    x = torch.randn(3, 1, 8, 8)
    before = x.clone()
    learner.logits(x, "t")
    assert torch.equal(x, before)


def test_a_net_of_doubles_is_refused():
    learner = make("static", lambda: tiny().double())
    with pytest.raises(SettingError, match="does not take inputs"):
        next(learner.learn(random_task()))


def test_a_net_that_cannot_be_split_is_refused_when_the_learner_is_made():
    with pytest.raises(SettingError, match=r"expected an nn\.Sequential"):
        make("lasem", lambda: nn.Linear(4, 4))
