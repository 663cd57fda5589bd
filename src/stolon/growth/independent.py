"""The network that a task would have alone: the first task's own, and what later tasks' conflicts are measured with.

It depends on the net, the training, the task and the seed alone, not on what was learned before nor on any setting of
growth. So it can be trained once and used in every trial of a search: :func:`key` names it, and
:class:`~stolon.growth.bind_and_grow.BindAndGrow` takes it from, and puts it into, any mapping that it is given.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.growth.structure import Structure, parameters_of, statistics_of, walk
from stolon.nets.stages import CONVOLUTIONS, Stage
from stolon.tasks import Task
from stolon.training import Training


@final
class Independent(nn.Module):
    """Stages and a head of its own, freshly drawn: a function of seed and task.

    Args:
        structure: the arrangement.
        task: the task's name.
        classes: how many it has.
        seed: of the weights.
        is_bare: leave out what follows the weights of fully connected layers, where there are convolutions, as the
            authors' code does for its CIFAR network (papers/methods.md 4.3). What is compared is behind the activation
            function all the same.
    """

    def __init__(
        self, structure: Structure, task: str, classes: int, seed: int, *, is_bare: bool = False
    ) -> None:
        super().__init__()
        self.staged = structure.fresh(seed, "independent", task)
        self.head = structure.head(classes, seed, task)
        self._parts = structure.parts
        is_bare = is_bare and structure.convolves
        self._ends = [
            _last_weights(stage) if is_bare and not _convolves(stage) else _length(stage)
            for stage in self.staged
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, C] of inputs [B, ...]."""
        for stage, end in zip(self.staged, self._ends, strict=True):
            is_whole = end == _length(stage)
            x = stage(x) if is_whole else stage.pool(stage.body[:end](x))
        scores: Tensor = self.head(self.staged.tail(x))
        return scores

    def activations(self, x: Tensor) -> list[Tensor]:
        """Of each unit [B, F]: behind its stage's activation function, before the pooling; in evaluation mode."""

        def body(i: int, stage: Stage, x: Tensor) -> tuple[Tensor, Tensor]:
            if self._ends[i] == _length(stage):
                y = stage.body(x)
                return y, y
            goes_on = stage.body[: self._ends[i]](x)
            return stage.body[self._ends[i] :](goes_on.clone()), goes_on

        return walk(self.eval().staged, x, self._parts, body)

    def parameters_by_stage(self) -> list[dict[str, Tensor]]:
        """The stages' parameters, detached."""
        return parameters_of(self.staged)

    def statistics(self) -> list[dict[str, Tensor]]:
        """A copy of the stages' buffers."""
        return statistics_of(self.staged)


def key(net: str | nn.Module, training: Training, task: Task, seed: int, *, is_bare: bool) -> str:
    """What a trained independent network depends on, as a digest: equal ones have equal bits (on one machine).

    Args:
        net: a name, or the module that it begins as a copy of.
        training: how it is trained; settings of growth are not looked at.
        task: on what.
        seed: of weights and orders.
        is_bare: see :class:`Independent`; False where there are no convolutions.
    """
    fields = [field.name for field in dataclasses.fields(Training)]
    recipe = {
        "net": nets.describe(net),
        "weights": "" if isinstance(net, str) else _digest(net.state_dict()),
        "training": {name: getattr(training, name) for name in fields},
        "task": task.digest(),
        "seed": seed,
        "is_bare": is_bare,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, value in tensors.items():
        sha.update(name.encode())
        sha.update(value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _layers(stage: Stage) -> Iterator[nn.Module]:
    return (module for module in stage.modules() if isinstance(module, (*CONVOLUTIONS, nn.Linear)))


def _convolves(stage: Stage) -> bool:
    return any(isinstance(layer, CONVOLUTIONS) for layer in _layers(stage))


def _length(stage: Stage) -> int:
    return len(list(stage.body))


def _last_weights(stage: Stage) -> int:
    """How many modules of the body there are up to the last that has weights."""
    return 1 + max(i for i, module in enumerate(stage.body) if any(True for _ in module.parameters()))
