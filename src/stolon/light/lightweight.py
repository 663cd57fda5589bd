"""The lightweight lifelong learner: a frozen backbone, and per task a head, an anchor and maybe biases.

Nothing that is shared ever changes, so learning a task cannot change what is answered for earlier ones once
the task is named; which task an unnamed input belongs to is told by the anchors (Ge et al., TMLR 2023,
arXiv:2305.15591, section 5).

A task is learned in up to three phases: its features are computed, once; a linear head is trained on them;
if asked for, biases and a second head are trained together through the frozen backbone (Eq. 1, 2), and
take the first head's place where they lower the validation loss.

Differences from the paper: the best epoch is chosen on validation data, not on test data; while biases are
trained, images are shifted at random, the biases' rate is 3e-3 and falls to nothing (the paper: 1e-3 for
all, no shifts; ``shift=0, bias_learning_rate=1e-3`` comes near it).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from stolon import nets
from stolon.errors import BackboneMismatchError, RecipeChangedError, SettingError, TaskUnknownError
from stolon.learner import Epoch, Learner, Prediction, Size
from stolon.light.anchoring import Anchoring
from stolon.light.answering import Answering, TaskKnowledge, features
from stolon.light.config import LightweightConfig
from stolon.light.features import FeatureMemo
from stolon.light.mappers import TaskMapper
from stolon.light.probes import choose
from stolon.light.task_run import TaskRun, below
from stolon.nets.backbone import Backbone, pretrained
from stolon.records import Json
from stolon.tasks import Task

__all__ = ["Lightweight", "TaskKnowledge"]

Parameters = Mapping[str, Tensor]


@final
class Lightweight(Learner):
    """A frozen backbone that all tasks share, and a head, an anchor and maybe biases per task.

    Args:
        net: a :class:`~stolon.nets.backbone.Backbone`, a name for :func:`~stolon.nets.backbone.pretrained`
            (which downloads weights; pass a Backbone to use a local file), or any module (its inputs are
            then taken as they are).
        config: how each task is learned.

    Raises:
        BackboneUnavailableError: the backbone's weights are not to be had.
    """

    name: ClassVar[str] = "lightweight"
    Config: ClassVar[type[LightweightConfig]] = LightweightConfig

    def __init__(self, net: Backbone | nn.Module | str, config: LightweightConfig) -> None:
        super().__init__()
        self._backbone = _as_backbone(net)
        self._memo = FeatureMemo(self._backbone)
        self._config = config
        self._anchoring = Anchoring(config.anchor, config.anchor_settings)
        self._knowledge: dict[str, TaskKnowledge] = {}
        self._probes: dict[str, Tensor] = {}
        self._mapper: TaskMapper | None = None  # built when first asked, from all anchors
        self._run: TaskRun | None = None
        self._saved_run: Parameters = {}

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone."""
        return self._backbone

    @property
    def mapper(self) -> TaskMapper:
        """What tells tasks apart: the merge of all anchors, the same in whatever order they came.

        Raises:
            TaskUnknownError: nothing was learned yet.
        """
        if not self._knowledge:
            raise TaskUnknownError("no task was learned yet; learn one first")
        self._mapper = self.answering().mapper
        return self._mapper

    @property
    def memo(self) -> FeatureMemo:
        """The backbone's features of inputs seen lately."""
        return self._memo

    @property
    def anchoring(self) -> Anchoring:
        """How anchors are fitted and merged."""
        return self._anchoring

    def answering(self) -> Answering:
        """What is answered from now: a value that learning and forgetting later on do not change."""
        return Answering(self._memo, self._knowledge, self._classes, self._anchoring, self._mapper)

    def knowledge(self, task: str) -> TaskKnowledge:
        """All that is a task's own.

        Raises:
            TaskUnknownError: no such task.
        """
        if task not in self._knowledge:
            raise TaskUnknownError(f"unknown task {task!r}; learned: {', '.join(self.tasks) or 'none yet'}")
        return self._knowledge[task]

    def probes(self, task: str) -> Tensor:
        """A few features of the task's inputs that its head did not learn from, float16 [P, D]; never shared.

        They are the backbone's own, untransformed, of validation data, or of training data where there are none.
        None [0, D] for a task that an earlier version learned, which kept none.

        Raises:
            TaskUnknownError: no such task.
        """
        width = self.knowledge(task).weight.shape[1]
        return self._probes.get(task, torch.zeros(0, width, dtype=torch.float16))

    def settings(self) -> Mapping[str, Json]:
        """The backbone and how tasks are learned."""
        config = {**dataclasses.asdict(self._config), "anchor_settings": dict(self._config.anchor_settings)}
        return {"net": self._backbone.name, **config}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the task's head, on features that its biases re-tuned where it has any."""
        self._require(task)
        if self._backbone.preprocessing is None:  # else any size is resized, and the rest is checked there
            self._check_input(x, task)
        if task == self.unfinished and task not in self._knowledge:
            weight, bias, biases = self._under_way(task)
            return linear(features(self._memo, x, biases), weight, bias)
        return self.answering().logits(x, task)

    def size(self) -> Size:
        """The backbone, and each task's head, biases and anchor."""
        return Size.of(
            self._backbone.module.state_dict(),
            {task: own.tensors() for task, own in self._knowledge.items()},
        )

    def _infer(self, x: Tensor) -> Prediction:
        _ = self.mapper  # made once, and kept
        return self.answering().predict(x)

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        self._anchoring.admit(task.train.batch(torch.tensor([0]))[0])
        if self._run is None:
            self._run = TaskRun(self._backbone, self._config, task, seed, self._saved_run)
        yield from self._run.run()
        run = self._run
        anchor = self._anchoring.fit(
            run.features("train"),
            task.train.labels,
            run.features("val"),
            seed,
            lambda indices: task.train.batch(indices)[0],
        )
        self._knowledge[task.name] = TaskKnowledge(*run.found(), anchor)
        part, labels = ("val", task.val.labels) if len(task.val) else ("train", task.train.labels)
        self._probes[task.name] = choose(run.features(part), labels, seed)
        self._mapper, self._run, self._saved_run = None, None, {}

    def _drop(self, task: str) -> None:
        if task == self.unfinished:
            self._run, self._saved_run = None, {}
        self._knowledge.pop(task, None)
        self._probes.pop(task, None)
        self._mapper = None

    def _under_way(self, task: str) -> tuple[Tensor, Tensor, Tensor]:
        if self._run is None:
            raise TaskUnknownError(f"the learning of {task!r} was interrupted; go on with it, then ask")
        return self._run.found()

    def _recipe(self, task: Task, seed: int) -> dict[str, Json]:
        return {**super()._recipe(task, seed), "backbone": self._backbone.fingerprint}

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Parameters]]:
        groups: dict[str, Parameters] = {
            **{f"task:{task}": own.tensors() for task, own in self._knowledge.items()},
            **{f"probes:{task}": {"features": rows} for task, rows in self._probes.items()},
        }
        run = self._saved_run if self._run is None else self._run.state()
        # Features are a group of their own: they do not change any more, so they are not written again.
        groups["features"] = {key: value for key, value in run.items() if key.startswith("features.")}
        groups["run"] = {key: value for key, value in run.items() if key not in groups["features"]}
        return {"backbone": self._backbone.fingerprint}, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Parameters]) -> None:
        theirs = document["state"]["backbone"]
        if theirs != self._backbone.fingerprint:
            raise BackboneMismatchError(
                f"learned on the backbone {theirs[:12]}, this one is {self._backbone.fingerprint[:12]} "
                f"({self._backbone.name}); give the backbone, weights and input size it was made with"
            )
        saved = document["settings"]
        theirs_fit = Anchoring(saved["anchor"], saved["anchor_settings"]).fitted_with
        if document["tasks"] and theirs_fit != self._anchoring.fitted_with:
            raise RecipeChangedError(
                f"anchors were fitted with {theirs_fit}, this learner has {self._anchoring.fitted_with}"
            )
        knowledge = {
            name.removeprefix("task:"): self._knowledge_from(tensors)
            for name, tensors in groups.items()
            if name.startswith("task:")
        }
        ordered = {task: knowledge[task] for task in document["tasks"]}
        probes = {
            task: groups[f"probes:{task}"]["features"] for task in ordered if f"probes:{task}" in groups
        }
        saved_run = {**groups["features"], **groups["run"]}
        self._knowledge, self._probes, self._saved_run = ordered, probes, saved_run
        self._mapper, self._run = None, None

    def _knowledge_from(self, tensors: Parameters) -> TaskKnowledge:
        anchor = self._anchoring.load(below("anchor.", tensors))
        return TaskKnowledge(tensors["head.weight"], tensors["head.bias"], tensors["biases"], anchor)


def _as_backbone(net: Backbone | nn.Module | str) -> Backbone:
    if isinstance(net, Backbone):
        return net
    if isinstance(net, str):
        return pretrained(net)
    if not isinstance(net, nn.Module):
        raise SettingError(f"net: expected a Backbone, a module or a name, found {type(net).__name__}")
    return Backbone(net, None, nets.describe(net))
