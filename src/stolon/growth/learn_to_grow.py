r"""Learn-to-Grow: for every layer a new task reuses an earlier one, adapts an earlier one, or gets a new one.

Li, Zhou, Wu, Socher and Xiong, "Learn to Grow: A Continual Structure Learning Framework for Overcoming Catastrophic
Forgetting", ICML 2019. A later task is learned in two phases: a differentiable search over what to do about each layer
(:mod:`stolon.growth.layer_search`), then the architecture of the largest logits is trained. The logits minimise, on
held data, the paper's loss with a price on size,

.. math::
    \mathcal L(\alpha) + \beta \sum_l \sum_c \mathrm{softmax}(\alpha^l)_c \, z^l_c / Z

where z is the number of parameters that a candidate adds: none for reuse, an adapter's, or a whole layer's.

No code of the authors was found. What follows fills gaps or differs, and is ours:

- Z, the number of parameters of a whole network's layers, makes beta mean the same for any net; so is its default, 0.1.
- A task searches for half as many epochs as it is trained for, rounded up. The logits are trained by Adam as in DARTS
  (learning rate 3e-4, a larger one where there are few steps, see :func:`stolon.training.architecture_rate`; betas 0.5
  and 0.999, weight decay 1e-3), first order, on validation data; where a task has none
  a tenth of its training data, drawn by the seed, is held out while it searches.
- Candidates are mixed behind the activations, before the pooling, as in :mod:`stolon.transfer.darts`.
- Training begins anew: new layers as they were drawn, adapters as no change, a fresh head. Nothing of the search is
  kept but its choices; of equal logits the candidate that adds less wins.
- What adapters are: :mod:`stolon.growth.adapters`. They are no candidates for later tasks; the layers they adapt are.
- Reused layers are frozen (``tune_reused`` = 0), so that earlier answers do not change by a bit; or they are tuned at a
  fraction of the learning rate, without the paper's regularisers. Layers that are adapted are frozen either way, and in
  the search all earlier ones are.
- Running statistics of normalisation are a task's own, and begin as drawn.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from stolon import nets
from stolon.errors import TaskUnknownError
from stolon.growth import validation
from stolon.growth.adapters import new_adapter
from stolon.growth.layer_search import Mixture, Search
from stolon.growth.library import ADAPT, NEW, Choice, Library
from stolon.growth.structure import Structure, Tensors, canonical, parameters_of
from stolon.learner import Learner
from stolon.nets.stages import split
from stolon.outcomes import Epoch, Size
from stolon.records import Json
from stolon.settings import above, at_least, whole, within
from stolon.tasks import Task, to_float
from stolon.training import Fit, Group, Training, architecture_rate


@final
@dataclass(frozen=True)
class LearnToGrowConfig(Training):
    """Settings of Learn-to-Grow, beside training's.

    Attributes:
        epochs: passes over the training data once the architecture is chosen, and of the first task, >= 1.
        search_epochs: passes over the training data while it is searched, >= 1; None is half of ``epochs``, rounded up.
        architecture_learning_rate: of the logits, > 0; None is by the search's length
            (:func:`stolon.training.architecture_rate`).
        beta: the price of adding as many parameters as a whole network has, in units of the loss, >= 0.
        rank: of adapters of fully connected layers and 1 x 1 convolutions, at most, >= 1.
        tune_reused: what the learning rate is multiplied by for reused layers, 0 to 1; with 0 they are frozen.

    Raises:
        SettingError: a value is out of its range.
    """

    search_epochs: int | None = None
    architecture_learning_rate: float | None = None
    beta: float = 0.1
    rank: int = 8
    tune_reused: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search_epochs is not None:
            whole("search_epochs", self.search_epochs, 1)
        if self.architecture_learning_rate is not None:
            above("architecture_learning_rate", self.architecture_learning_rate, 0)
        at_least("beta", self.beta, 0)
        whole("rank", self.rank, 1)
        within("tune_reused", self.tune_reused, 0, 1)

    def epochs_of_search(self) -> int:
        """As given, or half of training."""
        return (self.epochs + 1) // 2 if self.search_epochs is None else self.search_epochs


@final
@dataclass
class Work:
    """A task under way.

    Attributes:
        mixture: what is searched, until something was chosen.
        search: the search that goes on in this process.
        told: the search's last words, for the notes of the training.
        before: the reused nodes as they were, where they are tuned.
        fit: the training that goes on in this process.
        saved: the state of search or training, where it was loaded.
    """

    mixture: Mixture | None = None
    search: Search | None = None
    told: dict[str, Json] = dataclasses.field(default_factory=dict)
    before: dict[str, Tensors] = dataclasses.field(default_factory=dict)
    fit: Fit | None = None
    saved: Tensors = dataclasses.field(default_factory=dict)


@final
class LearnToGrow(Learner):
    """The learner; see the module.

    Args:
        net: a name of :func:`stolon.nets.names`, or an ``nn.Sequential`` (copied; every new layer begins as it is).
            Fully connected layers are stages too.
        config: its settings.

    Raises:
        SettingError: the module has no stages.
    """

    name: ClassVar[str] = "learn-to-grow"
    Config: ClassVar[type[LearnToGrowConfig]] = LearnToGrowConfig

    def __init__(self, net: str | nn.Module, config: LearnToGrowConfig) -> None:
        super().__init__()
        self._net, self.config = nets.own(net), config
        if isinstance(net, nn.Module):
            split(net, linear=True)  # one that cannot be is refused now
        self._library: Library | None = None
        self._work: Work | None = None

    # The verbs

    def settings(self) -> Mapping[str, Json]:
        """The net, how it is trained, and how it grows."""
        return {"net": nets.describe(self._net), **dataclasses.asdict(self.config)}

    @torch.no_grad()
    def logits(self, x: Tensor, task: str) -> Tensor:
        """Scores [B, C] by the layers that were chosen; while they are searched, by the mixture."""
        self._check_input(x, task)
        scores: Tensor = self._network(task).eval()(to_float(x))
        return scores

    def size(self) -> Size:
        """Layers that several tasks use are shared; the rest, with adapters and statistics, are a task's own."""
        return Size.of({}, {}) if self._library is None else self._library.size()

    def choices(self, task: str) -> tuple[Choice, ...]:
        """What a task does about each layer.

        Raises:
            TaskUnknownError: no such task, or nothing was chosen yet.
        """
        self._require(task)
        if self._library is None or task not in self._library.plans:
            raise TaskUnknownError(f"nothing was chosen yet for task {task!r}: its search is under way")
        return self._library.plan(task).choices

    # Learning

    def _learn(self, task: Task, seed: int) -> Iterator[Epoch]:
        library, work = self._begin(task)
        if task.name not in library.plans:
            if library.nodes:
                yield from self._search(library, work, task, seed)
            self._add(library, work, task, seed)
            library.prune()  # of what was kept for the search alone
            work.mixture, work.search, work.saved = None, None, {}
        yield from self._train(library, work, task, seed)
        self._work = None

    def _begin(self, task: Task) -> tuple[Library, Work]:
        """Refuse what cannot be learned; then the library and the work, new or as far as they have come."""
        self._check_alike(task)
        if self._library is None:
            self._library = Library(Structure(self._net, task.shape))
        elif self._library.nodes:
            validation.check(task)
        if self._work is None:
            self._work = Work()
        return self._library, self._work

    def _search(self, library: Library, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        config = self.config
        if work.mixture is None:
            work.mixture = Mixture(library, task.name, len(task.classes), config.rank, seed)
        if work.search is None:
            work.search = Search(
                work.mixture,
                config,
                task,
                seed,
                epochs=config.epochs_of_search(),
                rate=config.architecture_learning_rate
                or architecture_rate(len(task.train), config.batch_size, config.epochs_of_search()),
                beta=config.beta,
                state=work.saved,
            )
        yield from work.search.run()
        work.told = work.mixture.told()

    def _add(self, library: Library, work: Work, task: Task, seed: int) -> None:
        """Give the task the layers that were chosen, as they are at the beginning of its training."""
        structure, rank = library.structure, self.config.rank
        found = [Choice(NEW, "")] * structure.depth if work.mixture is None else work.mixture.choices()
        adapters = [
            new_adapter(stage, rank, seed, task.name, layer, choice.node) if choice.kind == ADAPT else {}
            for layer, (stage, choice) in enumerate(zip(structure.staged, found, strict=True))
        ]
        library.add(
            task.name,
            [None if choice.kind == NEW else choice for choice in found],
            parameters_of(structure.fresh(seed, NEW, task.name)),
            adapters,
            structure.head(len(task.classes), seed, task.name),
        )

    def _train(self, library: Library, work: Work, task: Task, seed: int) -> Iterator[Epoch]:
        """Train what is the task's own, and what it reuses as far as that is tuned."""
        groups = self._groups(library, work, task.name)
        if work.fit is None:
            for tensor in (tensor for group in groups for tensor in group.parameters):
                tensor.requires_grad_()
            work.fit = Fit(library.network(task.name), self.config, task, seed, work.saved, groups=groups)
        notes = self._notes(library, work, task.name)
        for epoch in work.fit.run():
            yield dataclasses.replace(epoch, notes=notes)
        _put_down(library, task.name)

    def _groups(self, library: Library, work: Work, task: str) -> list[Group]:
        groups, scale = [Group(library.own(task))], self.config.tune_reused
        reused = library.reused(task)
        if scale > 0 and reused:
            if not work.before:
                work.before = {
                    name: {key: canonical(value) for key, value in node.items()}
                    for name, node in reused.items()
                }
            groups.append(Group([value for node in reused.values() for value in node.values()], scale))
        return groups

    def _notes(self, library: Library, work: Work, task: str) -> dict[str, Json]:
        """The choices by their nodes, the logits that they were made by, and what the task adds."""
        return {
            **work.told,
            "choices": [str(choice) for choice in library.plan(task).choices],
            "parameters_added": sum(value.numel() for value in library.own(task)),
        }

    # State

    def _network(self, task: str) -> nn.Module:
        if self._library is not None and task in self._library.plans:
            return self._library.network(task)
        assert self._work is not None
        assert self._work.mixture is not None
        return self._work.mixture

    def _drop(self, task: str) -> None:
        library, work = self._library, self._work
        if library is not None and task in library.plans:
            if task == self.unfinished and work is not None:
                _put_down(library, task)
                with torch.no_grad():  # what was half learned is no knowledge
                    for name, tensors in work.before.items():
                        for key, value in tensors.items():
                            library.nodes[name][key].copy_(value)
            library.forget(task)
        if task == self.unfinished:
            self._work = None
        if library is not None and (self._work is None or self._work.mixture is None):
            library.prune()  # else a search under way may still choose them
        if library is not None and not library.plans and self._work is None:
            self._library = None  # made to the shape of a task that is gone

    def _state(self) -> tuple[Mapping[str, Json], Mapping[str, Mapping[str, Tensor]]]:
        document: dict[str, Json] = {}
        groups: dict[str, Mapping[str, Tensor]] = {}
        if self._library is not None:
            document["library"], groups = self._library.state()
        if (work := self._work) is not None:
            document["told"] = work.told
            going = work.fit or work.search
            groups["going"] = work.saved if going is None else going.state()
            if work.mixture is not None:
                groups["mixture"] = work.mixture.state()
            for name, tensors in work.before.items():
                groups[f"before:{name}"] = tensors
        return document, groups

    def _restore(self, document: Mapping[str, Json], groups: Mapping[str, Mapping[str, Tensor]]) -> None:
        state, shapes = document["state"], list(document["shapes"].values())
        library = work = None
        if "library" in state:
            structure = Structure(self._net, tuple(shapes[0]))
            library = Library.of_state(structure, state["library"], groups)
            if (unfinished := document["unfinished"]) is not None:
                before: dict[str, Tensors] = {
                    name.removeprefix("before:"): {key: canonical(value) for key, value in tensors.items()}
                    for name, tensors in groups.items()
                    if name.startswith("before:")
                }
                work = Work(told=state["told"], before=before, saved=groups["going"])
                if "mixture" in groups:
                    rank, classes = document["settings"]["rank"], len(unfinished["classes"])
                    mixture = Mixture(library, unfinished["task"], classes, rank, seed=0)
                    work.mixture = mixture.load(groups["mixture"])
        self._library, self._work = library, work


def _put_down(library: Library, task: str) -> None:
    """Nothing of a task's network wants gradients any more."""
    reused = library.reused(task).values()
    for tensor in (*library.own(task), *(value for node in reused for value in node.values())):
        tensor.requires_grad = False
        tensor.grad = None
