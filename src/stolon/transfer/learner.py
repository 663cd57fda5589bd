"""What all methods of selective transfer have in common: shared tensors, tasks' own parts, the choice at the end."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.errors import RecipeChangedError, SettingError
from stolon.learner import Learner
from stolon.nets.stages import split
from stolon.outcomes import Epoch, Size
from stolon.records import Json
from stolon.settings import at_least, one_of, whole
from stolon.tasks import Split, Task, to_float
from stolon.training import EVALUATION_BATCH
from stolon.transfer import statistics
from stolon.transfer.configurations import Configuration
from stolon.transfer.fit import Fit, Lesson, Strategy, TransferTraining, blown_up
from stolon.transfer.mechanisms import Mechanism, find
from stolon.transfer.network import Layers, Network, Parts, by_parts, copied, flat, unflat
from stolon.transfer.objectives import accuracy_of, concatenated

Groups = dict[str, Mapping[str, Tensor]]

ROLLBACKS = ("unshared", "none")


@dataclass(frozen=True)
class TransferConfig(TransferTraining):
    """Settings of all methods of selective transfer, beside those of training.

    Attributes:
        transfer: the mechanism: ``"hard"``, ``"tensor-factorization"``, ``"deconvolution"``, or a class of one's own.
        orthogonality: weight of the mechanism's penalty (tensor factorization's orthogonality), >= 0; the papers chose
            it from 0.001 to 0.1 and do not say which, 0.1 is the code's first.
        parts: into how many parts a layer's output channels are divided, each shared or not by itself, >= 1.
        rollback: what becomes of the shared tensors of layers that a task ends up not sharing: ``"unshared"``: what
            they were before the task (as released; neither paper mentions it), ``"none"``: they stay as trained.

    Raises:
        SettingError: a value is out of its range.
    """

    transfer: Any = "hard"
    orthogonality: float = 0.1
    parts: int = 1
    rollback: str = "unshared"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.mechanism()
        at_least("orthogonality", self.orthogonality, 0)
        whole("parts", self.parts, 1)
        one_of("rollback", self.rollback, ROLLBACKS)

    def mechanism(self) -> type[Mechanism]:
        """The mechanism's class."""
        if isinstance(self.transfer, str):
            return find(self.transfer)
        if not (isinstance(self.transfer, type) and issubclass(self.transfer, Mechanism)):
            raise SettingError(f"transfer: expected a name or a Mechanism, found {self.transfer!r}")
        missing = sorted(getattr(self.transfer, "__abstractmethods__", ()))
        if not isinstance(getattr(self.transfer, "name", None), str):
            missing.append("name")
        if missing:
            raise SettingError(f"transfer: {self.transfer.__name__} lacks {', '.join(missing)}")
        return self.transfer


@final
@dataclass
class Kept:
    """What is kept of a learned task."""

    configuration: Configuration
    parts: Parts


@final
@dataclass
class Work:
    """A task under way.

    Attributes:
        before: what was shared before it.
        parts: its own, whole.
        fit: its training, once it goes on in this process.
        saved: the training's state, where it was loaded.
    """

    before: Layers
    parts: Parts
    fit: Fit | None = None
    saved: Mapping[str, Tensor] = dataclasses.field(default_factory=dict)


class TransferLearner(Learner):
    """Base of the methods; one implements ``_strategy``.

    A task's network has the learned configuration: shared layers are made of what all tasks share, which later tasks
    go on training; the others, and the tail with the head, are the task's own and stay as they are.
    """

    regresses = True
    Config: ClassVar[type[TransferConfig]]

    def __init__(self, net: str | nn.Module, config: TransferConfig) -> None:
        super().__init__()
        self._net, self.config = nets.own(net), config
        if isinstance(net, nn.Module):
            split(net)  # one that cannot be is refused now
        self._network: Network | None = None
        self._shared: Layers = []
        self._kept: dict[str, Kept] = {}
        self._work: Work | None = None
        self._epochs = 0  # of all tasks so far

    # The verbs

    def settings(self) -> Mapping[str, Json]:
        """The net and how it is trained."""
        values = {field.name: getattr(self.config, field.name) for field in dataclasses.fields(self.config)}
        return {"net": nets.describe(self._net), **values, "transfer": self.config.mechanism().name}

    @final
    def configuration(self, task: str) -> Configuration:
        """Which layers a task shares: of one that is being learned, as it would be now.

        Raises:
            TaskUnknownError: no such task.
        """
        self._require(task)
        return self._current()[0] if task == self.unfinished else self._kept[task].configuration

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the shared tensors as they are now and the task's own parts."""
        self._check_input(x, task)
        assert self._network is not None
        if task == self.unfinished:
            configuration, shared, parts = self._current()
        else:
            kept = self._kept[task]
            configuration, shared, parts = kept.configuration, self._shared, kept.parts
        return self._network.answer(shared, parts, configuration, to_float(x))

    def size(self) -> Size:
        """What tasks share, and what each has of its own."""
        own = {task: kept.parts.tensors() for task, kept in self._kept.items()}
        return Size.of(flat("shared", self._shared), own)

    # What a method implements

    @abstractmethod
    def _strategy(self, lesson: Lesson) -> Strategy:
        """How a task's parameters are trained, and its configuration found."""

    def _finished(self, task: Task, strategy: Strategy) -> None:
        """The task has been learned: for methods that remember something of it."""

    # Learning

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        network, work = self._begin(task, seed)
        yield from self._train(network, work, task, seed)
        assert work.fit is not None
        self._keep(task.name, work, work.fit.strategy.configuration)
        self._finished(task, work.fit.strategy)
        self._work = None

    def _begin(self, task: Task, seed: int) -> tuple[Network, Work]:
        """Structure, shared tensors and the task's own parts, new or as far as they have come."""
        self._check_alike(task)
        if self._network is None:
            self._network = Network(self._net, task.shape, self.config.mechanism(), self.config.parts)
            self._shared = in_order(self._network.begin_shared(seed))
        if self._work is None:
            self._work = Work(copied(self._shared), self._new_parts(self._network, task, seed))
        return self._network, self._work

    def _new_parts(self, network: Network, task: Task, seed: int) -> Parts:
        parts = network.begin_task(task.name, len(task.classes), seed)
        return dataclasses.replace(parts, own=in_order(parts.own), factors=in_order(parts.factors))

    def _train(self, network: Network, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        if work.fit is None:
            lesson = Lesson(network, self._shared, work.parts, task, seed)
            work.fit = Fit(self._strategy(lesson), self.config, lesson, self._epochs)
            if work.saved:
                work.fit.load(work.saved)
        for epoch in work.fit.run():
            self._measure_statistics(network, work, task)
            yield dataclasses.replace(epoch, val_accuracy=self._score(task.name, task.val))

    def _keep(self, task: str, work: Work, configuration: Configuration) -> None:
        """Keep what the configuration uses; shared tensors that it does not use go back to what they were."""
        assert self._network is not None
        for layer in (*self._shared, *work.parts.own, *work.parts.factors):
            for name, tensor in layer.items():
                layer[name] = tensor.detach()
        work.parts.tail.requires_grad_(requires_grad=False).zero_grad()  # to None: as large as the tail
        if self.config.rollback == "unshared":
            self._shared = rolled_back(
                self._shared, work.before, configuration, by_channel=self._network.mechanism.by_channel
            )
        self._kept[task] = Kept(configuration, self._network.keep(work.parts, configuration))
        self._epochs += self.config.epochs

    def _current(self) -> tuple[Configuration, Layers, Parts]:
        """Of the task under way: what it would be answered with now."""
        work = self._work
        assert work is not None
        if work.fit is None:
            assert self._network is not None
            return self._resumed(work), self._shared, work.parts
        return work.fit.strategy.configuration, self._shared, work.parts

    def _resumed(self, work: Work) -> Configuration:
        """The configuration of a task under way that was loaded and has not gone on yet."""
        return Configuration.from_text("".join(map(chr, work.saved["configuration"].tolist())))

    def _score(self, task: str, part: Split) -> float | None:
        if not len(part):
            return None
        batches = []
        for indices in torch.arange(len(part)).split(EVALUATION_BATCH):
            x, y = part.batch(indices)
            batches.append((self.logits(x, task), y))
        outputs, y = concatenated(batches)
        if not bool(outputs.isfinite().all()):
            raise blown_up(task, "validation outputs that are none")
        return accuracy_of(outputs, y)

    def _measure_statistics(self, network: Network, work: Work, task: Task) -> None:
        if network.has_statistics and work.fit is not None:
            configuration = work.fit.strategy.configuration
            work.parts.statistics = statistics.measured(
                network, self._shared, work.parts, configuration, task.train
            )

    # Saving

    def _drop(self, task: str) -> None:
        self._kept.pop(task, None)
        if task == self.unfinished and self._work is not None:
            self._shared = self._work.before  # what was half learned is no knowledge
            self._work = None
        if not self._kept and self._work is None:
            self._network, self._shared, self._epochs = None, [], 0  # made to a shape that is gone

    def _state(self) -> tuple[Mapping[str, Json], Groups]:
        groups: Groups = {f"task:{name}": kept.parts.tensors() for name, kept in self._kept.items()}
        if self._network is not None:
            groups["shared"] = flat("shared", self._shared)
        if self._work is not None:
            groups |= self._state_of(self._work)
        configurations = {name: str(kept.configuration) for name, kept in self._kept.items()}
        return {"configurations": configurations, "epochs": self._epochs}, groups

    def _state_of(self, work: Work) -> Groups:
        saved = dict(work.saved)
        if work.fit is not None:
            text = str(work.fit.strategy.configuration).encode()
            saved = {**work.fit.state(), "configuration": torch.tensor(list(text), dtype=torch.uint8)}
        return {"work": work.parts.tensors(), "before": flat("before", work.before), "fit": saved}

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._take(self._read(document, groups))

    def _read(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> "Saved":
        """What was saved; changes nothing.

        Raises:
            RecipeChangedError: it was saved with another mechanism.
        """
        theirs, mine = document["settings"]["transfer"], self.config.mechanism().name
        if theirs != mine:
            raise RecipeChangedError(
                f"saved with transfer={theirs!r}, this learner has {mine!r}; make it as it was saved"
            )
        saved = Saved(epochs=int(document["state"]["epochs"]))
        shapes = list(document["shapes"].values())
        if not shapes:
            return saved
        network = saved.network = Network(
            self._net, tuple(shapes[0]), self.config.mechanism(), self.config.parts
        )
        saved.shared = in_order(unflat("shared", groups["shared"], network.depth))
        for name, text in document["state"]["configurations"].items():
            saved.kept[name] = Kept(Configuration.from_text(text), parts_of(network, groups[f"task:{name}"]))
        if "work" in groups:
            before = in_order(unflat("before", groups["before"], network.depth))
            saved.work = Work(before, parts_of(network, groups["work"]), saved=dict(groups["fit"]))
        return saved

    def _take(self, saved: "Saved") -> None:
        self._network, self._shared = saved.network, saved.shared
        self._kept, self._work, self._epochs = saved.kept, saved.work, saved.epochs


@final
@dataclass
class Saved:
    """A learner's state, as it was read."""

    epochs: int
    network: Network | None = None
    shared: Layers = dataclasses.field(default_factory=list)
    kept: dict[str, Kept] = dataclasses.field(default_factory=dict)
    work: Work | None = None


def in_order(layers: Layers) -> Layers:
    """The same, each layer's tensors contiguous and sorted by name: an optimiser knows them by position alone.

    Files keep neither order nor strides, on which a convolution's last bits depend: new tensors and loaded ones must
    have the same.
    """
    contiguous = torch.contiguous_format  # a copy: contiguous() leaves strides of dimensions of size 1
    return [{name: layer[name].clone(memory_format=contiguous) for name in sorted(layer)} for layer in layers]


def parts_of(network: Network, tensors: Mapping[str, Tensor]) -> Parts:
    """What :meth:`Parts.tensors` gave, among other tensors."""
    start = "tail/"
    tail = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    return Parts(
        own=in_order(unflat("own", tensors, network.depth)),
        factors=in_order(unflat("factors", tensors, network.depth)),
        statistics=unflat("statistics", tensors, network.depth),
        tail=network.tail(tail),
    )


def rolled_back(now: Layers, before: Layers, configuration: Configuration, *, by_channel: bool) -> Layers:
    """Shared tensors, where a configuration does not share them as they were before.

    Args:
        now: as they are.
        before: as they were.
        configuration: what is shared.
        by_channel: rows of the tensors are output channels, so that a layer's parts go back one by one; else a layer
            stays as it is where any of its parts is shared.
    """
    layers: Layers = []
    for new, old, row in zip(now, before, configuration.shared, strict=True):
        if all(row) or (any(row) and not by_channel):
            layers.append(new)
        elif not any(row):
            layers.append(old)
        else:
            layers.append({name: by_parts(row, value, old[name]) for name, value in new.items()})
    return layers
