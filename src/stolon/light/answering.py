"""Answers from a frozen backbone and what is known of some tasks, whoever learned them."""

from collections.abc import Mapping
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.nn.functional import linear

from stolon.errors import TaskUnknownError
from stolon.light.anchoring import Anchor, Anchoring
from stolon.light.biases import BiasSites
from stolon.light.features import FeatureMemo
from stolon.light.mappers import TaskMapper
from stolon.nets.backbone import BATCH, Backbone
from stolon.outcomes import UNKNOWN, Prediction


class TaskKnowledge(NamedTuple):
    """All that is a task's own.

    Attributes:
        weight: of the head [C, D].
        bias: of the head [C].
        biases: of the backbone [total], or none [0].
        anchor: what tells the task from others.
    """

    weight: Tensor
    bias: Tensor
    biases: Tensor
    anchor: Anchor

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name: what is stored."""
        head = {"head.weight": self.weight, "head.bias": self.bias, "biases": self.biases}
        return {**head, **{f"anchor.{key}": value for key, value in self.anchor.tensors().items()}}


@final
class Answering:
    """What is answered from: a value that learning, receiving and forgetting later on do not change.

    A lone learner and an agent that answers from received modules run this same code. Several threads may ask
    at once.

    Args:
        backbone: frozen; or a memo of its features, which several of these may share.
        knowledge: of each task, by name.
        classes: the class names of each task.
        anchoring: how the tasks' anchors are merged.
        mapper: what ``anchoring`` would merge them to, where that was made already; else it is made when it is
            first needed.

    Raises:
        TaskUnknownError: ``knowledge`` and ``classes`` name different tasks.
    """

    def __init__(
        self,
        backbone: Backbone | FeatureMemo,
        knowledge: Mapping[str, TaskKnowledge],
        classes: Mapping[str, tuple[str, ...]],
        anchoring: Anchoring,
        mapper: TaskMapper | None = None,
    ) -> None:
        if knowledge.keys() != classes.keys():
            raise TaskUnknownError(
                f"expected the classes of {', '.join(sorted(knowledge)) or 'no task'}, found those of "
                f"{', '.join(sorted(classes)) or 'none'}; give both for every task"
            )
        self._memo = backbone if isinstance(backbone, FeatureMemo) else FeatureMemo(backbone)
        self._knowledge, self._classes = MappingProxyType(dict(knowledge)), MappingProxyType(dict(classes))
        self._anchoring, self._mapper, self._lock = anchoring, mapper, Lock()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that are answered, in the order given."""
        return tuple(self._knowledge)

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The class names of each task."""
        return self._classes

    @property
    def mapper(self) -> TaskMapper:
        """What tells the tasks apart.

        Raises:
            TaskUnknownError: there is no task.
        """
        if not self._knowledge:
            raise TaskUnknownError("no task was learned yet; learn one first")
        with self._lock:
            if self._mapper is None:
                anchors = {name: own.anchor for name, own in self._knowledge.items()}
                self._mapper = self._anchoring.mapper(anchors, self._memo.features)
            return self._mapper

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the task's head, on features that its biases re-tuned where it has any.

        Args:
            x: inputs [B, ...] as the backbone takes them.
            task: its name.

        Raises:
            TaskUnknownError: no such task.
        """
        if task not in self._knowledge:
            raise TaskUnknownError(f"unknown task {task!r}; learned: {', '.join(self.tasks) or 'none yet'}")
        own = self._knowledge[task]
        return linear(features(self._memo, x, own.biases), own.weight, own.bias)

    def predict(self, x: Tensor, task: str | None = None) -> Prediction:
        """Answer a batch of inputs [B, ...].

        Args:
            x: inputs, as the backbone takes them.
            task: the task's name, or None to infer it for each input.

        Raises:
            TaskUnknownError: no such task, or no task at all.
        """
        if task is None:
            return self._infer(x)
        confidence, labels = self.logits(x, task).softmax(1).max(1)
        classes = self._classes[task]
        return Prediction(
            labels, tuple(classes[i] for i in labels.tolist()), (task,) * len(labels), confidence
        )

    @torch.no_grad()
    def _infer(self, x: Tensor) -> Prediction:
        """Each image passes the backbone once, and once more only where its task has biases."""
        mapper = self.mapper
        found = self._memo.features(x)
        mapped = mapper.map(found)
        labels = torch.full((len(x),), UNKNOWN)
        confidence = torch.zeros(len(x))  # stays 0 where unknown: no answer is given there
        for index in mapped.tasks[mapped.known].unique().tolist():  # of thousands of tasks a few are there
            rows = (mapped.tasks == index).nonzero().squeeze(1)
            own = self._knowledge[mapper.tasks[index]]
            group = found[rows]
            if len(own.biases):
                group = features(self._memo, x[rows], own.biases)
            share, labels[rows] = linear(group, own.weight, own.bias).softmax(1).max(1)
            confidence[rows] = mapped.confidence[rows] * share
        names = [mapper.tasks[i] if i >= 0 else None for i in mapped.tasks.tolist()]
        classes = [
            None if task is None else self._classes[task][label]
            for task, label in zip(names, labels.tolist(), strict=True)
        ]
        return Prediction(labels, tuple(classes), tuple(names), confidence)


def features(memo: FeatureMemo, x: Tensor, biases: Tensor) -> Tensor:
    """Features [B, D] of inputs [B, ...], by the backbone that these biases re-tune; none: as it is."""
    if not len(biases):
        return memo.features(x)
    parameters = _sites_of(memo.backbone, len(biases)).parameters(biases)
    return torch.cat([memo.backbone.features(part, parameters) for part in x.split(BATCH)])


def _sites_of(backbone: Backbone, total: int) -> BiasSites:
    """The sites that so many biases belong to; a task may have been learned with either kind."""
    sites = BiasSites(backbone.module, "all")
    return sites if sites.total == total else BiasSites(backbone.module, "pointwise")
