"""One network per task: nothing shared, nothing forgotten, everything paid for anew.

The reference that gains are measured against: what a task reaches when it is learned alone.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.learner import Epoch, Learner, Size
from stolon.nets.heads import new_head
from stolon.records import Json
from stolon.tasks import Task, to_float
from stolon.training import Fit, Training


@final
class SingleTask(Learner):
    """Trains a net of its own for each task; a module that is passed is where each of them starts.

    Args:
        net: a name of :func:`stolon.nets.names`, or a module that gives features [B, F] (copied).
        config: how each net is trained.
    """

    name: ClassVar[str] = "single-task"
    Config: ClassVar[type[Training]] = Training

    def __init__(self, net: str | nn.Module, config: Training) -> None:
        super().__init__()
        self._net, self._config = nets.own(net), config
        self._networks: dict[str, nn.Sequential] = {}
        self._fit_state: Mapping[str, Tensor] = {}
        self._fit: Fit | None = None

    def settings(self) -> Mapping[str, Json]:
        """The net and how it is trained."""
        return {"net": nets.describe(self._net), **dataclasses.asdict(self._config)}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the task's own network."""
        self._check_input(x, task)
        scores: Tensor = self._networks[task].eval()(to_float(x))
        return scores

    def size(self) -> Size:
        """Nothing shared; a whole network per task."""
        return Size.of({}, {task: network.state_dict() for task, network in self._networks.items()})

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        if task.name not in self._networks:
            self._networks[task.name] = self._build(task.name, task.shape, len(task.classes), seed)
        if self._fit is None:
            self._fit = Fit(self._networks[task.name], self._config, task, seed, self._fit_state)
        yield from self._fit.run()
        self._fit, self._fit_state = None, {}

    def _build(self, task: str, shape: tuple[int, ...], classes: int, seed: int) -> nn.Sequential:
        body = nets.build(self._net, input_shape=shape, seed=seed)
        return nn.Sequential(body, new_head(body, shape, classes, seed, task))

    def _drop(self, task: str) -> None:
        self._networks.pop(task, None)
        if task == self.unfinished:
            self._fit, self._fit_state = None, {}

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        groups: dict[str, Mapping[str, Tensor]] = {
            f"network:{task}": network.state_dict() for task, network in self._networks.items()
        }
        groups["fit"] = self._fit.state() if self._fit is not None else self._fit_state
        return {}, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        networks = {}
        for name, tensors in groups.items():
            task = name.removeprefix("network:")
            if task != name:
                classes = len(tensors["1.bias"])
                networks[task] = self._build(task, tuple(document["shapes"][task]), classes, seed=0)
                networks[task].load_state_dict(dict(tensors))
        self._networks = networks
        self._fit, self._fit_state = None, groups["fit"]
