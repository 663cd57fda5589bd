"""One network, a head per task, nothing protected: the baseline that forgets, and shows it.

Each task trains the whole shared net together with its own head; earlier heads stay as they are, but the
features under them move. The lower bound that every method here has to beat.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.learner import Epoch, Learner, Size
from stolon.nets.heads import load_head, new_head
from stolon.records import Json
from stolon.tasks import Task, to_float
from stolon.training import Fit, Training


@final
class Finetune(Learner):
    """Fine-tunes one net on each task in turn, with a linear head per task.

    Args:
        net: a name of :func:`stolon.nets.names` (made when the first task comes, to its shape), or a module
            that gives features [B, F] (copied).
        config: how each task is trained.

    Example:
        >>> from stolon.tasks import Split, Task
        >>> split = Split.of(torch.eye(4), torch.tensor([0, 1, 0, 1]))
        >>> learner = Finetune("mlp-8", Training(epochs=2))
        >>> [epoch.number for epoch in learner.learn(Task("t", ("a", "b"), split, split, split))]
        [1, 2]
        >>> learner.predict(torch.eye(4), "t").labels.shape
        torch.Size([4])
    """

    name: ClassVar[str] = "finetune"
    Config: ClassVar[type[Training]] = Training

    def __init__(self, net: str | nn.Module, config: Training) -> None:
        super().__init__()
        self._net, self._config = nets.own(net), config
        self._body: nn.Module | None = None
        self._heads: dict[str, nn.Linear] = {}
        self._fit_state: Mapping[str, Tensor] = {}
        self._fit: Fit | None = None

    def settings(self) -> Mapping[str, Json]:
        """The net and how it is trained."""
        return {"net": nets.describe(self._net), **dataclasses.asdict(self._config)}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the shared net as it is now and the task's own head."""
        self._check_input(x, task)
        assert self._body is not None
        scores: Tensor = self._heads[task](self._body.eval()(to_float(x)))
        return scores

    def size(self) -> Size:
        """The shared net, and a head per task."""
        shared = {} if self._body is None else self._body.state_dict()
        return Size.of(shared, {task: head.state_dict() for task, head in self._heads.items()})

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        if self._body is None:
            self._body = nets.build(self._net, input_shape=task.shape, seed=seed)
        if task.name not in self._heads:
            self._heads[task.name] = new_head(self._body, task.shape, len(task.classes), seed, task.name)
        network = nn.Sequential(self._body, self._heads[task.name])
        if self._fit is None:
            self._fit = Fit(network, self._config, task, seed, self._fit_state)
        yield from self._fit.run()
        self._fit, self._fit_state = None, {}

    def _drop(self, task: str) -> None:
        self._heads.pop(task, None)
        if not self._heads:
            self._body = None  # made to the shape of a task that is gone
        if task == self.unfinished:
            self._fit, self._fit_state = None, {}

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        groups: dict[str, Mapping[str, Tensor]] = {
            f"head:{task}": head.state_dict() for task, head in self._heads.items()
        }
        if self._body is not None:
            groups["body"] = self._body.state_dict()
        groups["fit"] = self._fit.state() if self._fit is not None else self._fit_state
        return {}, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        shape = next((tuple(shape) for shape in document["shapes"].values()), None)
        body = None
        if shape is not None and "body" in groups:
            body = nets.build(self._net, input_shape=shape, seed=0)
            body.load_state_dict(dict(groups["body"]))
        self._body = body
        self._heads = {
            name.removeprefix("head:"): load_head(tensors)
            for name, tensors in groups.items()
            if name.startswith("head:")
        }
        self._fit, self._fit_state = None, groups["fit"]
