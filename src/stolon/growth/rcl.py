r"""Reinforced continual learning: a controller learns, by trial, how many units to add to each layer for a new task.

Xu and Zhu, "Reinforced Continual Learning", NeurIPS 2018. For every task after the first an LSTM proposes numbers of
units (:mod:`stolon.growth.controller`); a child network with so many new columns (:mod:`stolon.growth.columns`) is
trained, the old ones frozen; the controller learns from its reward, and after some trials the best child is kept:

.. math::
    R = \text{validation accuracy} - \alpha \cdot \text{units added}, \qquad \alpha = 10^{-4}

The constants are the authors' as papers/methods.md 4.4 tells them: an MLP 784-312-128-10 (``net="mlp-312-128"``), 50
trials, 0 to 29 units for each layer, an LSTM of 2 x 100, 15 epochs in mini-batches of 32 by Adam at 1e-3, weights'
squares at 1e-4, weights from a normal of sigma 0.01 cut at two sigma, biases 0.1, the critic's learning rate 5e-3.

What follows fills gaps or differs, and is ours:

- Of convolutions, filters are added, as in the paper; a unit of the price is a unit of a layer or a filter. Nets are
  convolutions and linear layers with ReLU and pooling between them (:mod:`stolon.growth.hidden`): no normalisation.
  Where there are convolutions, sigma is sqrt(2 / fan-in) in hidden layers: signals of 0.01 would fade in five of them.
- Old units read nothing of new ones, so that earlier answers do not change by a bit. A task has a head of its own, on
  all units that there are when it is learned, all of it trained: where few are added it is most of what the task adds.
- Each task has a controller of its own, freshly drawn; its learning rate is the critic's.
- Squares of biases and heads count too: weight decay, whose gradient is that of half the sum of squares.
- Where a task has no validation data a tenth of its training data, drawn by the seed, is held out in all trials.
- Of equal rewards the earlier child is kept; it is not trained any further.
- Without old units nothing is to be decided: the first task has the net's own widths.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from stolon import nets
from stolon.errors import DataError, TaskUnknownError
from stolon.growth import validation
from stolon.growth.columns import (
    Child,
    Generation,
    Seen,
    activations,
    units,
)
from stolon.growth.controller import Controller
from stolon.growth.hidden import Hidden, hidden_layers, hidden_widths
from stolon.growth.rcl_trials import Grown, Trial, reward
from stolon.growth.structure import Tensors
from stolon.learner import Learner
from stolon.outcomes import Epoch, Size
from stolon.randomness import generator, number
from stolon.records import Json
from stolon.settings import above, at_least, whole
from stolon.tasks import Split, Task
from stolon.training import Fit, Group, OptimizerName, Training, accuracy


@final
@dataclass(frozen=True)
class RclConfig(Training):
    """Settings of RCL; the defaults are the authors', or where they are not known ours (see the module).

    Attributes:
        epochs: passes over the training data, of the first task and of every child, >= 1.
        batch_size: samples per step, >= 1.
        learning_rate: of weights, > 0.
        optimizer: of weights; see :class:`~stolon.training.Training`.
        weight_decay: >= 0.
        trials: children for each task after the first, >= 1.
        max_units: that can be added to one layer, >= 1.
        price: of one unit, in accuracy, >= 0.
        controller_width: units of each of the LSTM's layers, >= 1.
        controller_layers: of the LSTM, >= 1.
        controller_learning_rate: > 0.
        critic_learning_rate: > 0.
        memory: bytes that the old units' activations may take while a task is learned, >= 1.

    Raises:
        SettingError: a value is out of its range.
    """

    epochs: int = 15
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: OptimizerName = "adam"
    weight_decay: float = 1e-4
    trials: int = 50
    max_units: int = 29
    price: float = 1e-4
    controller_width: int = 100
    controller_layers: int = 2
    controller_learning_rate: float = 5e-3
    critic_learning_rate: float = 5e-3
    memory: int = 512 * 2**20

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("trials", "max_units", "controller_width", "controller_layers", "memory"):
            whole(name, getattr(self, name), 1)
        at_least("price", self.price, 0)
        above("controller_learning_rate", self.controller_learning_rate, 0)
        above("critic_learning_rate", self.critic_learning_rate, 0)


@final
@dataclass
class Own:
    """What answers for a task.

    Attributes:
        generations: how many it reads, from the first; its own is the last of them.
        head: weight [C, features of the last layer's units] and bias [C].
    """

    generations: int
    head: Tensors


@final
@dataclass
class Work:
    """A task under way.

    Attributes:
        child: the first task's network in training; of later tasks none is kept between two trials.
        fit: its training that goes on in this process.
        saved: that training's state, where it was loaded.
        controller: of a later task.
        trials: so far.
        best: the best child so far: its columns and its head.
    """

    child: Child | None = None
    fit: Fit | None = None
    saved: Tensors = dataclasses.field(default_factory=dict)
    controller: Controller | None = None
    trials: list[Trial] = dataclasses.field(default_factory=list)
    best: tuple[Generation, Tensors] | None = None


@final
class Rcl(Learner):
    """The learner; see the module.

    Args:
        net: a name such as ``"mlp-312-128"`` or ``"growth-conv"``, or an ``nn.Sequential`` of convolutions and pooling,
            Flatten, then linear layers, with a ReLU behind each. It says how wide the first task's network is; its
            weights are not used.
        config: the settings.

    Raises:
        SettingError: it is another net.
    """

    name: ClassVar[str] = "rcl"
    Config: ClassVar[type[RclConfig]] = RclConfig

    def __init__(self, net: str | nn.Module, config: RclConfig) -> None:
        super().__init__()
        self._net, self.config = nets.own(net), config
        self._hidden = hidden_widths(self._net)
        self._layers: tuple[Hidden, ...] = ()  # for inputs of this shape
        self._shape: tuple[int, ...] = ()
        self._generations: list[Generation] = []
        self._own: dict[str, Own] = {}
        self._grown: dict[str, Grown] = {}
        self._work: Work | None = None

    # The verbs

    def settings(self) -> Mapping[str, Json]:
        """The net, how it is trained, and how it grows."""
        return {"net": nets.describe(self._net), **dataclasses.asdict(self.config)}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the columns that there were when the task was learned; before, by its best child so far."""
        self._check_input(x, task)
        generations, head = self._answering(task)
        features = activations(generations, x, self._of(x.shape[1:]))[-1]
        return linear(features, head["weight"], head["bias"])

    def size(self) -> Size:
        """Columns that several tasks read are shared; those that one reads are its own, as are heads."""
        shared: dict[str, Tensor] = {}
        own: dict[str, dict[str, Tensor]] = {task: dict(each.head) for task, each in self._own.items()}
        for i, generation in enumerate(self._generations):
            readers = [task for task, each in self._own.items() if each.generations > i]
            place = own[readers[0]] if len(readers) == 1 else shared
            place.update({f"{i}/{name}": value for name, value in generation.tensors().items()})
        return Size.of(shared, own)

    def growth(self, task: str) -> Grown:
        """The units that a task was given, and the trials that this was learned by.

        Raises:
            TaskUnknownError: no such task, or its trials are under way.
        """
        self._require(task)
        if task not in self._grown:
            raise TaskUnknownError(f"nothing was decided yet for task {task!r}: its trials are under way")
        return self._grown[task]

    # Learning

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        work = self._begin(task)
        if self._generations:
            yield from self._try(work, task, seed)
            assert work.best is not None
            (columns, head), trials = work.best, tuple(work.trials)
        else:
            yield from self._train_first(work, task, seed)
            assert work.child is not None
            columns, head, trials = work.child.generation(), work.child.head(), ()
        self._generations.append(columns)
        self._own[task.name] = Own(len(self._generations), head)
        self._grown[task.name] = Grown(units([columns], len(self._hidden)), trials)
        self._work = None

    def _begin(self, task: Task) -> Work:
        """Refuse what cannot be learned; then the work, new or as far as it has come."""
        self._check_alike(task)
        try:
            self._of(task.shape)
        except DataError as error:
            raise DataError(f"task {task.name!r}: {error}") from error
        if self._generations:
            validation.check(task)
        if self._work is None:
            self._work = Work()
        return self._work

    def _train_first(self, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        """Train the net itself."""
        if work.child is None:
            work.child = self._first_child(task.shape, len(task.classes), seed, task.name)
        if work.fit is None:
            train, val = (self._seen(part, torch.arange(len(part))) for part in (task.train, task.val))
            work.fit = self._fit(work.child, _view(task, train, val), seed, work.saved)
        yield from work.fit.run()

    def _try(self, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        """Train child after child, and the controller by what they are worth."""
        if work.controller is None:
            work.controller = _new_controller(self.config, self._hidden, self._generations, seed, task.name)
        total = self.config.trials
        if len(work.trials) == total:
            return
        parts = validation.divide(task, seed)
        train, held = self._seen(task.train, parts.train), self._seen(parts.held, parts.indices)
        none = self._seen(task.train, torch.arange(0))
        view = _view(task, train, none)
        while (done := len(work.trials)) < total:
            trial, loss = self._one_trial(work, view, held, seed, task.shape)
            best = max(range(done + 1), key=lambda i: work.trials[i].reward)
            notes = {
                "units": list(trial.units),
                "reward": trial.reward,
                "advantage": trial.advantage,
                "held": parts.source,
                "best": {**work.trials[best].to_json(), "trial": best + 1},
            }
            yield Epoch(task.name, "trial", done + 1, total, loss, trial.accuracy, notes)

    def _one_trial(
        self, work: Work, view: Task, held: Split, seed: int, shape: tuple[int, ...]
    ) -> tuple[Trial, float | None]:
        assert work.controller is not None
        done, name = len(work.trials), view.name
        added = work.controller.sample(generator(seed, "rcl", name, done))
        old, classes = units(self._generations, len(self._hidden)), len(view.classes)
        child = Child(self._of(shape), shape, old, added, classes=classes, seed=seed, purpose=(name, done))
        loss = None
        for epoch in self._fit(child, view, number(seed, "trial", done)).run():
            loss = epoch.loss
        score = accuracy(child, held)
        assert score is not None
        worth = reward(score, sum(added), self.config.price)
        if work.best is None or worth > max(trial.reward for trial in work.trials):
            work.best = child.generation(), child.head()
        trial = Trial(added, score, worth, work.controller.learn(added, worth))
        work.trials.append(trial)
        return trial, loss

    def _fit(self, child: Child, view: Task, seed: int, saved: Tensors | None = None) -> Fit:
        return Fit(child, self.config, view, seed, saved, groups=[Group(child.trained())])

    def _first_child(self, shape: tuple[int, ...], classes: int, seed: int, task: str) -> Child:
        none = [0] * len(self._hidden)
        return Child(self._of(shape), shape, none, self._hidden, classes=classes, seed=seed, purpose=(task,))

    def _seen(self, split: Split, indices: Tensor) -> Seen:
        return Seen(split, indices, self._generations, self._of(split.shape), self.config.memory)

    def _of(self, shape: Sequence[int]) -> tuple[Hidden, ...]:
        """The hidden layers, for inputs of this shape: all of a learner's have the same.

        Raises:
            DataError: they do not fit the net.
        """
        if not self._layers or tuple(shape) != self._shape:
            self._layers, self._shape = hidden_layers(self._net, shape), tuple(shape)
        return self._layers

    # State

    def _answering(self, task: str) -> tuple[list[Generation], Tensors]:
        if task in self._own:
            own = self._own[task]
            return self._generations[: own.generations], own.head
        assert self._work is not None
        work = self._work
        if work.child is not None:
            return [work.child.generation()], work.child.head()
        assert work.best is not None
        columns, head = work.best
        return [*self._generations, columns], head

    def _drop(self, task: str) -> None:
        self._grown.pop(task, None)
        self._own.pop(task, None)
        if task == self.unfinished:
            self._work = None
        if self._work is None:  # else the children of a task under way read all of them
            # later columns read earlier ones: only what is behind the last that is used can go
            used = max((own.generations for own in self._own.values()), default=0)
            del self._generations[used:]

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        document: dict[str, Json] = {
            "grown": {task: grown.to_json() for task, grown in self._grown.items()},
            "generations": len(self._generations),
            "own": {task: own.generations for task, own in self._own.items()},
        }
        groups: dict[str, Mapping[str, Tensor]] = {
            **{f"generation:{i}": each.tensors() for i, each in enumerate(self._generations)},
            **{f"head:{task}": own.head for task, own in self._own.items()},
        }
        if (work := self._work) is not None:
            document["trials"] = [trial.to_json() for trial in work.trials]
            if work.child is not None:
                groups["child"] = work.child.state_dict()
                groups["fit"] = work.saved if work.fit is None else work.fit.state()
            if work.controller is not None:
                groups["controller"] = work.controller.tensors()
            if work.best is not None:
                columns, head = work.best
                groups["best"], groups["best head"] = columns.tensors(), head
        return document, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        state, depth = document["state"], len(self._hidden)
        grown = {task: Grown.of_json(values) for task, values in state["grown"].items()}
        own = {task: Own(count, dict(groups[f"head:{task}"])) for task, count in state["own"].items()}
        generations = [Generation.of(groups[f"generation:{i}"], depth) for i in range(state["generations"])]
        work = None
        if (unfinished := document["unfinished"]) is not None:
            work = Work(trials=[Trial.of_json(values) for values in state["trials"]])
            name = unfinished["task"]
            if "child" in groups:
                shape, classes = tuple(document["shapes"][name]), len(unfinished["classes"])
                work.child = self._first_child(shape, classes, 0, name)
                work.child.load_state_dict(dict(groups["child"]))
                work.saved = groups["fit"]
            if "best" in groups:
                work.best = Generation.of(groups["best"], depth), dict(groups["best head"])
            if "controller" in groups:
                settings = {key: value for key, value in document["settings"].items() if key != "net"}
                made = _new_controller(RclConfig(**settings), self._hidden, generations, 0, name)
                work.controller = made.load(groups["controller"])
        self._generations, self._own, self._grown, self._work = generations, own, grown, work


def _new_controller(
    config: RclConfig, hidden: Sequence[int], generations: Sequence[Generation], seed: int, task: str
) -> Controller:
    now = units(generations, len(hidden))
    return Controller(
        [width / first for width, first in zip(now, hidden, strict=True)],
        actions=config.max_units + 1,
        layers=config.controller_layers,
        width=config.controller_width,
        rates=(config.controller_learning_rate, config.critic_learning_rate),
        seed=seed,
        task=task,
    )


def _view(task: Task, train: Split, val: Split) -> Task:
    """The task as new columns see it."""
    return Task(task.name, task.classes, train, val, val)
