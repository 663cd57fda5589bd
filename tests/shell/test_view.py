"""What the page is told of a picture."""

import pytest
import torch
from torch import nn

from stolon.agent import Agent
from stolon.errors import TaskUnknownError
from stolon.light.config import LightweightConfig
from stolon.nets.backbone import Backbone
from stolon.shell.view import LEAST, View
from stolon.tasks import Split, Task

CLASSES = ("ash", "beech", "cedar", "oak")


def trees():
    """Four classes, of which beech and cedar lie near each other, far from the others."""
    y = torch.arange(160) % 4
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(160, 6, generator=generator) * 0.5
    x[torch.arange(160), y] += torch.tensor([6.0, 1.0, 1.0, 6.0])[y]
    parts = [Split.of(x[part], y[part]) for part in (slice(0, 80), slice(80, 120), slice(120, 160))]
    return Task("trees", CLASSES, *parts)


@pytest.fixture
def agent(tmp_path):
    torch.manual_seed(0)
    backbone = Backbone(nn.Sequential(nn.Linear(6, 16), nn.Tanh()), None, "toy")
    with Agent.create(
        tmp_path / "store", backbone, LightweightConfig(epochs=20, learning_rate=0.05)
    ) as agent:
        yield agent


def test_other_classes_of_the_task_are_told_the_likeliest_first(agent):
    for _ in agent.learn(trees()):
        pass
    view, x = View(agent, None), trees().test.batch(torch.arange(40))[0]
    told = 0
    for one, answer in zip(x, agent.predict(x).classes, strict=True):
        found = view.classify(one[None])
        assert found.known == (answer is not None)
        if not found.known:
            assert found.alternatives == ()
            continue
        assert found.label == answer
        chances = [found.confidence, *(other.confidence for other in found.alternatives)]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1 + 1e-6
        assert all(chance >= LEAST for chance in chances)
        names = {found.label, *(other.label for other in found.alternatives)}
        assert len(names) == len(chances)
        assert names <= set(CLASSES)
        assert {other.task for other in found.alternatives} <= {"trees"}
        told += {"beech", "cedar"} <= names
    assert told >= 5
    assert told < 40


def test_nothing_known_is_said(agent):
    with pytest.raises(TaskUnknownError, match="learn one first"):
        View(agent, None).classify(torch.zeros(1, 6))
