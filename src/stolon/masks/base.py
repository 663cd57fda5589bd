"""What learners on a frozen random network have in common."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.errors import (
    BackboneMismatchError,
    DataError,
    SettingError,
    TaskError,
    TaskExistsError,
    TaskUnfinishedError,
    TaskUnknownError,
)
from stolon.learner import Learner
from stolon.masks.fitting import MaskTraining, check_classes
from stolon.masks.frozen import WEIGHTS, FrozenNet, Identity, Weights, planned
from stolon.masks.inference import OBJECTIVES, PERS, SEARCHES, Candidates, Objective, Per, Search, TaskSearch
from stolon.masks.memory import Kept, StoredMask
from stolon.masks.popup import Densities, MaskRule, Rule, Values
from stolon.outcomes import Prediction
from stolon.records import Json
from stolon.settings import one_of, whole
from stolon.tasks import Task, check_name, to_float
from stolon.training import EVALUATION_BATCH

Groups = dict[str, Mapping[str, Tensor]]

_NOWHERE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class MaskConfig(MaskTraining):
    """Settings of all learners on a frozen random network, beside those of training.

    Attributes:
        learning_rate: of scores, > 0; SupSup has 1e-4 on MNIST, with a thousand steps.
        outputs: of the network's last layer, >= 1: tasks may have fewer classes, not more; by default as many as the
            first task has. SupSup takes 100 for MNIST, so that most are superfluous.
        initialisation: how the network's weights are drawn; see :class:`~stolon.masks.frozen.FrozenNet`.
        backbone_seed: they are a function of it.
        rule: how scores become a mask; see :class:`~stolon.masks.popup.MaskRule`, like the next four.
        density: share of the weights that are kept.
        densities: the same in all layers, or by their shapes.
        magnitude: whether scores are ranked by magnitude.
        values: of the mask.
        scaled: whether kept weights are scaled up.
        search: how the task of an input is found when it is not named; see :mod:`stolon.masks.inference`.
        objective: by what.
        per: for each ``"sample"`` by itself, or for each ``"batch"`` that is passed, as the papers do.

    Raises:
        SettingError: a value is out of its range.
    """

    learning_rate: float = 1e-3
    outputs: int | None = None
    initialisation: Weights = "signed-constant"
    backbone_seed: int = 0
    rule: Rule = "top"
    density: float = 0.1
    densities: Densities = "uniform"
    magnitude: bool = True
    values: Values = "binary"
    scaled: bool = False
    search: Search = "one-shot"
    objective: Objective = "entropy"
    per: Per = "sample"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.outputs is not None:
            whole("outputs", self.outputs, 1)
        one_of("initialisation", self.initialisation, WEIGHTS)
        whole("backbone_seed", self.backbone_seed, 0)
        one_of("search", self.search, SEARCHES)
        one_of("objective", self.objective, OBJECTIVES)
        one_of("per", self.per, PERS)
        if self.objective == "superfluous" and self.outputs is None:
            raise SettingError(
                "objective 'superfluous': expected outputs beyond those that tasks use, found outputs=None; set "
                "outputs, such as 100"
            )
        self.mask_rule()

    def mask_rule(self) -> MaskRule:
        """How scores become a mask."""
        return MaskRule(
            self.rule, self.density, self.densities, self.magnitude, self.values, scaled=self.scaled
        )


class MaskLearner(Learner):
    """Base of the learners; one implements ``_task_weights``, ``_task_statistics`` and ``_adopt`` beside the verbs.

    What has been learned is a task's own and nothing of it is ever trained again: no answer changes, bit for bit.
    """

    config: MaskConfig

    def __init__(self, net: str | nn.Module, config: MaskConfig) -> None:
        super().__init__()
        self._net, self.config = nets.own(net), config
        self._frozen: FrozenNet | None = None
        self._ready: tuple[str, list[Tensor]] | None = None  # the weights of the task asked for last

    @final
    @property
    def frozen(self) -> FrozenNet:
        """The network.

        Raises:
            SettingError: no task has been seen, so that the shape of inputs is not known.
        """
        if self._frozen is None:
            raise SettingError("expected a learner that has begun a task, found one that knows no inputs yet")
        return self._frozen

    def settings(self) -> Mapping[str, Json]:
        """The net and how it is trained."""
        return {"net": nets.describe(self._net), **dataclasses.asdict(self.config)}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] under the task's mask."""
        self._check_input(x, task)
        self.frozen.check(x)
        if self._ready is None or self._ready[0] != task:
            self._ready = task, self._task_weights(task)
        classes = len(self.classes(task))
        scores = self.frozen(to_float(x), self._ready[1], self._task_statistics(task), training=False)
        return scores[:, :classes]

    @abstractmethod
    def _task_weights(self, task: str) -> list[Tensor]:
        """The weights of each layer under a task: one that was learned, or is being learned."""

    @abstractmethod
    def _task_statistics(self, task: str) -> Mapping[str, Tensor]:
        """Normalisation's statistics of a task."""

    # Which task

    @final
    def infer(
        self,
        x: Tensor,
        *,
        search: Search | None = None,
        objective: Objective | None = None,
        per: Per | None = None,
    ) -> tuple[str, ...]:
        """The task that each input [B, ...] belongs to; what is not set is as in the settings.

        Raises:
            SettingError: no task has been learned, or the objective needs outputs that there are none of.
            DataError: inputs of another shape, or no numbers.
        """
        self.frozen.check(x)
        config, names = self.config, self.tasks
        used = max((len(self.classes(name)) for name in names), default=0)
        finder = TaskSearch(self._candidates(), used, objective or config.objective)
        found = []
        how = search or config.search, per or config.per
        batches = [x] if how[1] == "batch" else x.split(EVALUATION_BATCH)
        for part in batches:
            found += finder.find(to_float(part), *how).tolist()
        return tuple(names[i] for i in found)

    def _candidates(self) -> Candidates:
        """The learned tasks, in order."""
        names = self.tasks
        statistics = [self._task_statistics(name) for name in names]
        return Candidates(self.frozen, lambda i: self._task_weights(names[i]), statistics)

    def _infer(self, x: Tensor) -> Prediction:
        names = self.infer(x)
        labels, confidence = torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x))
        for name in sorted(set(names)):
            rows = torch.tensor([i for i, found in enumerate(names) if found == name])
            sure, chosen = self.logits(x[rows], name).softmax(1).max(1)
            labels[rows], confidence[rows] = chosen, sure
        classes = tuple(self.classes(name)[label] for name, label in zip(names, labels.tolist(), strict=True))
        return Prediction(labels, classes, names, confidence)

    # What others learned

    @final
    def adopt(
        self,
        task: str,
        classes: Sequence[str],
        knowledge: StoredMask | Kept,
        network: Identity,
        *,
        basis: str = "",
        origin: Mapping[str, str] = _NOWHERE,
    ) -> None:
        """Take on a task that another learner learned on the same network; it is answered bit for bit as there.

        A learner that has no network yet makes it. (Sums of masks are the same bits where ``form`` is the same.)

        Args:
            task: what it is to be called here.
            classes: its class names.
            knowledge: what the other learner keeps of it, :meth:`knowledge`.
            network: which network it was learned on.
            basis: of coefficients: the other's :attr:`~stolon.masks.impressions.Impressions.basis_fingerprint`.
            origin: where it came from, in words; kept in the task's recipe.

        Raises:
            TaskExistsError: a task of that name is known.
            TaskUnfinishedError: the learning of a task is under way.
            TaskError: names that no task can have.
            BackboneMismatchError: it was learned on another network.
            DataError: it does not fit: more classes than outputs, other shapes, another basis.
        """
        if task in self.tasks:
            raise TaskExistsError(f"task {task!r} is known already; choose another name or forget it")
        if self.unfinished is not None:
            raise TaskUnfinishedError(
                f"the learning of task {self.unfinished!r} is under way; finish it before {task!r}"
            )
        names = tuple(classes)
        check_name("task", task)
        for name in names:
            check_name("class", name)
        if not names or len(set(names)) < len(names):
            raise TaskError(f"task {task!r}: expected distinct class names, found {names}")
        frozen = self._identified(network)
        if len(names) > frozen.outputs:
            raise DataError(
                f"task {task!r}: expected at most {frozen.outputs} classes, the network's outputs, found {len(names)}"
            )
        self._adopt(task, knowledge, frozen, basis)
        self._frozen = frozen
        self._classes[task], self._shapes[task] = names, frozen.input_shape
        self._recipes[task] = {
            "task": task,
            "classes": list(names),
            "data": origin.get("data", ""),
            "adopted": dict(origin),
        }

    @abstractmethod
    def knowledge(self, task: str) -> StoredMask | Kept:
        """What is kept of a learned task: with it, another learner on the same network can answer it.

        Raises:
            TaskUnknownError: no such task has been learned.
        """

    @abstractmethod
    def _adopt(self, task: str, knowledge: StoredMask | Kept, frozen: FrozenNet, basis: str) -> None:
        """Check and keep what came from another learner; whatever can fail comes before the first change."""

    @final
    def _require_learned(self, task: str) -> None:
        self._require(task)
        if task == self.unfinished:
            raise TaskUnknownError(f"task {task!r} is being learned; finish it first")

    @final
    def _identified(self, network: Identity) -> FrozenNet:
        """This learner's network, made if there is none, if it is the one that is meant; nothing is changed.

        Raises:
            BackboneMismatchError: it is another one.
        """
        remedy = "make the learner with the net, weights, backbone_seed and outputs of who learned it"
        frozen = self._frozen
        if frozen is None:
            if self.config.outputs not in (None, network.outputs):
                raise BackboneMismatchError(
                    f"expected knowledge of {self.config.outputs} outputs, found {network.outputs}; {remedy}"
                )
            try:
                shapes = planned(self._net, network.input_shape, network.outputs)
            except SettingError as error:
                raise BackboneMismatchError(f"expected knowledge of this net: {error}; {remedy}") from error
            if shapes != network.shapes:
                raise BackboneMismatchError(
                    f"expected knowledge of layers {shapes}, found {network.shapes}; {remedy}"
                )
            frozen = self._make(network.input_shape, network.outputs)
        mine = frozen.fingerprint()
        if mine != network.fingerprint:
            raise BackboneMismatchError(
                f"expected knowledge of the frozen network {mine[:12]}, found of {network.fingerprint[:12]}; {remedy}"
            )
        return frozen

    # Beginnings

    @final
    def _begin(self, task: Task) -> FrozenNet:
        """The network, made for the first task's inputs; refuses a task that it cannot answer, or not find."""
        if self._frozen is None:
            self._frozen = self._make(task.shape, self.config.outputs or len(task.classes))
        check_classes(self._frozen, task)
        if self.config.objective == "superfluous" and len(task.classes) >= self._frozen.outputs:
            raise SettingError(
                f"task {task.name!r}: expected fewer classes than the {self._frozen.outputs} outputs, for objective "
                f"'superfluous', found {len(task.classes)}; make the learner with more outputs, such as 100"
            )
        return self._frozen

    @final
    def _make(self, shape: tuple[int, ...], outputs: int) -> FrozenNet:
        return FrozenNet(
            self._net, shape, outputs, weights=self.config.initialisation, seed=self.config.backbone_seed
        )

    # Saving

    @final
    def _frozen_state(self) -> tuple[dict[str, Json], Groups]:
        """The network, as tensors: its draws are a function of the seed, but not for ever of torch's version."""
        if self._frozen is None:
            return {"outputs": None}, {}
        weights = dict(zip(self._frozen.names, self._frozen.weights, strict=True))
        shape = list(self._frozen.input_shape)
        return {"outputs": self._frozen.outputs, "shape": shape}, {"frozen": weights}

    @final
    def _saved_frozen(
        self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]
    ) -> FrozenNet | None:
        """The network that was saved; changes nothing."""
        outputs = document["state"]["outputs"]
        if outputs is None:
            return None
        shapes = [
            document["state"].get("shape"),
            *document["shapes"].values(),
        ]  # the first since there is `adopt`
        frozen = self._make(tuple(next(shape for shape in shapes if shape)), int(outputs))
        frozen.take(groups["frozen"])
        return frozen
