r"""Learn-to-Grow's search: a mixture of all that a task can do about each layer, trained like DARTS.

The output of layer l is a mixture of candidates c (Li et al., section 3.2):

.. math::
    x_{l+1} = \sum_c \frac{\exp \alpha^l_c}{\sum_{c'} \exp \alpha^l_{c'}} \, g^l_c(x_l)

g reuses an earlier node, adapts an earlier node, or is new. Mini-batch by mini-batch the logits are trained on held
data, the weights of what would be the task's own on training data, first order (Liu et al. 2018). Earlier nodes are
frozen.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from stolon.errors import TaskError
from stolon.growth.adapters import adapted, new_adapter
from stolon.growth.library import ADAPT, NEW, REUSE, Choice, Library, flat
from stolon.growth.structure import Tensors, canonical, parameters_of
from stolon.growth.validation import divide
from stolon.nets.stages import CONVOLUTIONS, Stage
from stolon.outcomes import Epoch
from stolon.randomness import generator, permutation, seeded
from stolon.tasks import Task, to_float
from stolon.training import (
    Training,
    accuracy,
    load_optimizer,
    make_optimizer,
    mini_batches,
    optimizer_tensors,
)

BETAS: Final = (0.5, 0.999)
WEIGHT_DECAY: Final = 1e-3


@final
class Mixture(nn.Module):
    """Every layer in every way.

    Args:
        library: the earlier nodes, used by reference.
        task: the task's name.
        classes: how many it has.
        rank: see :func:`stolon.growth.adapters.new_adapter`.
        seed: new layers, adapters and the head are a function of it and the task.

    Attributes:
        candidates: of each layer: reuse of every node, then adapting each, then a new one (node ``""``).
        logits: of each layer, in that order; they begin equal.
        added: of each layer and candidate how many parameters it adds.
    """

    def __init__(self, library: Library, task: str, classes: int, rank: int, seed: int) -> None:
        super().__init__()
        structure = library.structure
        drawn = structure.fresh(seed, NEW, task)
        self.staged, self.head = structure.staged, structure.head(classes, seed, task)
        self.candidates: list[list[Choice]] = []
        self._own: list[dict[Choice, dict[str, Tensor]]] = []  # new tensors, adapters
        self._nodes: list[dict[str, dict[str, nn.Parameter]]] = []
        for layer, (stage, fresh) in enumerate(zip(structure.staged, parameters_of(drawn), strict=True)):
            names = library.candidates(layer)
            adapts = [Choice(ADAPT, name) for name in names]
            self.candidates.append([*(Choice(REUSE, name) for name in names), *adapts, Choice(NEW, "")])
            adapters = {each: new_adapter(stage, rank, seed, task, layer, each.node) for each in adapts}
            self._own.append(
                {
                    each: {name: canonical(value).requires_grad_() for name, value in sorted(tensors.items())}
                    for each, tensors in {**adapters, Choice(NEW, ""): fresh}.items()
                }
            )
            self._nodes.append({name: library.nodes[name] for name in names})
        # each candidate's own: what one of them sees of the layer before says nothing about another
        self._statistics = [
            [{name: canonical(value) for name, value in measured.items()} for _ in here]
            for here, measured in zip(self.candidates, structure.statistics(), strict=True)
        ]
        self.logits = [torch.zeros(len(here), requires_grad=True) for here in self.candidates]
        self.added = [
            [float(sum(value.numel() for value in own.get(each, {}).values())) for each in here]
            for here, own in zip(self.candidates, self._own, strict=True)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, C] of inputs [B, ...]: mixed behind the activations, before the pooling."""
        for layer, stage in enumerate(self.staged):
            x = _kept(x, stage)
            weights = self.logits[layer].softmax(0)
            ways = [functional_call(stage.body, made, (x,)) for made in self._made(layer)]
            x = stage.pool(_mixed(weights, ways))
        scores: Tensor = self.head(self.staged.tail(x))
        return scores

    def weights(self) -> list[Tensor]:
        """What is trained beside the logits: new layers, adapters, the head."""
        own = [value for layer in self._own for tensors in layer.values() for value in tensors.values()]
        return [*own, *self.head.parameters()]

    def choices(self) -> list[Choice]:
        """The largest logit's candidate in each layer; of equal ones the first, so that nothing is added in vain."""
        return [here[int(logits.argmax())] for here, logits in zip(self.candidates, self.logits, strict=True)]

    def cost(self) -> Tensor:
        """Parameters that the mixture is expected to add, per parameter of one whole network."""
        whole = sum(value.numel() for value in self.staged.parameters())
        layers = zip(self.logits, self.added, strict=True)
        expected: Tensor = sum(
            (logits.softmax(0) @ torch.tensor(added) for logits, added in layers), torch.zeros(())
        )
        return expected / whole

    def told(self) -> dict[str, Any]:
        """Choices and logits, as JSON values."""
        layers = zip(self.candidates, self.logits, strict=True)
        return {
            "choices": [str(choice).strip() for choice in self.choices()],
            "logits": [
                {
                    str(each).strip(): round(value, 6)
                    for each, value in zip(here, logits.tolist(), strict=True)
                }
                for here, logits in layers
            ],
        }

    def state(self) -> dict[str, Tensor]:
        """All tensors of its own, by reference."""
        parts: dict[str, Iterator[tuple[str, Tensor]]] = {
            "own": flat([_named(layer) for layer in self._own]),
            "statistics": flat([_named(dict(enumerate(layer))) for layer in self._statistics]),
            "logits": ((str(i), logits) for i, logits in enumerate(self.logits)),
            "head": iter(self.head.named_parameters()),
        }
        return {f"{part}/{name}": value.detach() for part, named in parts.items() for name, value in named}

    @torch.no_grad()
    def load(self, state: Tensors) -> "Mixture":
        """Take back what :meth:`state` gave; returns the mixture itself."""
        mine = self.state()  # the very storages
        for name in mine.keys() | state.keys():
            mine[name].copy_(state[name])
        return self

    def _made(self, layer: int) -> Iterator[dict[str, Tensor]]:
        """The tensors of each candidate of a layer, by their names within its body."""
        own, nodes = self._own[layer], self._nodes[layer]
        for choice, measured in zip(self.candidates[layer], self._statistics[layer], strict=True):
            tensors: Tensors = own[choice] if choice.kind == NEW else nodes[choice.node]
            made = adapted(tensors, own[choice]) if choice.kind == ADAPT else tensors
            yield {name.removeprefix("body."): value for name, value in {**made, **measured}.items()}


@final
class Search:
    """The training of a mixture; complete, as tensors, between any two epochs.

    Args:
        mixture: what is trained.
        training: how its weights are.
        task: on what.
        seed: of orders, dropouts and draws of held data.
        epochs: how many.
        rate: the logits' learning rate.
        beta: the price of adding as many parameters as one whole network has, in units of the loss.
        state: what :meth:`state` gave, to go on from there.
    """

    def __init__(
        self,
        mixture: Mixture,
        training: Training,
        task: Task,
        seed: int,
        *,
        epochs: int,
        rate: float,
        beta: float,
        state: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.mixture, self._training, self._task, self._seed = mixture, training, task, seed
        self._epochs, self._beta = epochs, beta
        self._parts = divide(task, seed)
        self._weights = make_optimizer(mixture.weights(), training)
        self._logits = Adam(mixture.logits, rate, BETAS, weight_decay=WEIGHT_DECAY)
        self._epoch = 0
        if state:
            self._epoch = int(state["epoch"])
            load_optimizer(self._weights, _without("weights/", state))
            load_optimizer(self._logits, _without("logits/", state))

    def run(self) -> Iterator[Epoch]:
        """Train to the end; yields after every epoch.

        Raises:
            TaskError: the training has blown up; nothing could be chosen by its numbers.
        """
        while self._epoch < self._epochs:
            loss = self._one_epoch()
            if not (math.isfinite(loss) and all(bool(each.isfinite().all()) for each in self.mixture.logits)):
                raise TaskError(
                    f"task {self._task.name!r}: expected a search that stays finite, found loss {loss} in epoch "
                    f"{self._epoch + 1}; lower the learning rate or scale the data"
                )
            self._epoch += 1
            notes = {**self.mixture.told(), "held": self._parts.source}
            score = accuracy(self.mixture, self._task.val)
            yield Epoch(self._task.name, "search", self._epoch, self._epochs, loss, score, notes)

    def state(self) -> dict[str, Tensor]:
        """The number of epochs done and both optimisers' tensors; the mixture gives its own."""
        optimizers = {"weights": self._weights, "logits": self._logits}
        return {
            "epoch": torch.tensor(self._epoch),
            **{
                f"{which}/{name}": value
                for which, optimizer in optimizers.items()
                for name, value in optimizer_tensors(optimizer).items()
            },
        }

    def _one_epoch(self) -> float:
        task, seed, epoch, parts = self._task.name, self._seed, self._epoch, self._parts
        self.mixture.train()
        order = parts.train[permutation(len(parts.train), seed, "search order", task, epoch)]
        total = torch.zeros(())
        with seeded(seed, "search dropout", task, epoch):
            for step, indices in enumerate(mini_batches(order, self._training.batch_size)):
                g = generator(seed, "architecture", task, epoch, step)
                drawn = torch.randperm(len(parts.indices), generator=g)[: len(indices)]
                self._step_logits(*parts.held.batch(parts.indices[drawn]))
                total += self._step_weights(*self._task.train.batch(indices)) * len(indices)
        return total.item() / len(parts.train)

    def _step_logits(self, x: Tensor, y: Tensor) -> None:
        loss = cross_entropy(self.mixture(to_float(x)), y) + self._beta * self.mixture.cost()
        self._logits.zero_grad()
        loss.backward(inputs=self.mixture.logits)
        self._logits.step()

    def _step_weights(self, x: Tensor, y: Tensor) -> Tensor:
        loss = cross_entropy(self.mixture(to_float(x)), y)
        self._weights.zero_grad()
        loss.backward(inputs=self.mixture.weights())
        self._weights.step()
        return loss.detach()


def _mixed(weights: Tensor, ways: Sequence[Tensor]) -> Tensor:
    mixed = weights[0] * ways[0]
    for weight, way in zip(weights[1:], ways[1:], strict=True):
        mixed = mixed + weight * way
    return mixed


def _named(parts: Mapping[Any, Tensors]) -> dict[str, Tensor]:
    return {f"{which}/{name}": v for which, tensors in parts.items() for name, v in tensors.items()}


def _without(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _kept(x: Tensor, stage: Stage) -> Tensor:
    """What every candidate is fed: some bodies work in place on their input, or on a view of it."""
    is_harmless = isinstance(next(iter(stage.body)), (*CONVOLUTIONS, nn.Linear))
    return x if is_harmless else x.clone()
