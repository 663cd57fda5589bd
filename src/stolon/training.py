"""Epochs of mini-batches: shuffling, optimiser, exact resume.

The order of the samples and the dropout of an epoch are functions of (seed, task, epoch), so the only state
of a training is its parameters, its optimiser's tensors and the number of epochs done: :class:`Fit` gives
them as tensors between any two epochs and takes them back.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from stolon.learner import Epoch
from stolon.randomness import permutation, seeded
from stolon.settings import above, at_least, flags, one_of, whole, within
from stolon.tasks import Split, Task, to_float

EVALUATION_BATCH = 256
OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop", "rmsprop-tf"]
OPTIMIZERS: Final = ("sgd", "adam", "adamw", "rmsprop", "rmsprop-tf")


@dataclass(frozen=True)
class Training:
    """How a network is trained on each task.

    Attributes:
        epochs: passes over the training data, >= 1.
        batch_size: samples per step, >= 1; the last step of an epoch may have fewer.
        learning_rate: > 0.
        optimizer: ``"sgd"``, ``"adam"``, ``"adamw"`` or ``"rmsprop"``, as in torch.optim, or ``"rmsprop-tf"``: as in
            TensorFlow 1, with epsilon inside the root and squares that start at 1; a new one per task.
        momentum: of SGD and RMSprop, 0 to 1.
        weight_decay: >= 0.

    Raises:
        SettingError: a value is out of its range.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 0.01
    optimizer: OptimizerName = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        flags(self)
        whole("epochs", self.epochs, 1)
        whole("batch_size", self.batch_size, 1)
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        above("learning_rate", self.learning_rate, 0)
        within("momentum", self.momentum, 0, 1)
        at_least("weight_decay", self.weight_decay, 0)


class Group(NamedTuple):
    """Parameters that are trained at a rate of their own.

    Attributes:
        parameters: what is trained.
        scale: what the learning rate is multiplied by, > 0; what is not to change belongs to no group.
    """

    parameters: Sequence[Tensor]
    scale: float = 1.0


def make_optimizer(parameters: Iterable[Tensor] | Sequence[Group], training: Training) -> Optimizer:
    """The optimiser that the settings name.

    The fused kernels update all parameters in one call, which small networks feel; RMSprop has none.

    Args:
        parameters: what is trained, all at one rate, or groups of it with rates of their own. An optimiser's state
            knows them by position alone.
        training: the settings.
    """
    lr, decay = training.learning_rate, training.weight_decay
    rated = _rated(list(parameters), lr)
    match training.optimizer:
        case "sgd":
            return SGD(rated, lr, momentum=training.momentum, weight_decay=decay, fused=True)
        case "adam":
            return Adam(rated, lr, weight_decay=decay, fused=True)
        case "adamw":
            return AdamW(rated, lr, weight_decay=decay, fused=True)
        case "rmsprop":
            return RMSprop(rated, lr, momentum=training.momentum, weight_decay=decay)
        case "rmsprop-tf":
            from stolon import _torchvision  # noqa: F401 - makes the next import possible beside a CPU build

            from timm.optim.rmsprop_tf import RMSpropTF  # isort: skip

            # timm's default epsilon is TensorFlow's
            return RMSpropTF(rated, lr, momentum=training.momentum, weight_decay=decay, foreach=True)


def _rated(parameters: Sequence[Any], rate: float) -> Any:  # noqa: ANN401 - torch takes either form
    """Groups as torch.optim takes them; plain parameters as they are."""
    return [
        {"params": list(entry.parameters), "lr": rate * entry.scale} if isinstance(entry, Group) else entry
        for entry in parameters
    ]


def mini_batches(order: Tensor, size: int, *, drop_last: bool = False) -> list[Tensor]:
    """An order of samples, so many at a time; one that is left over at the end joins those before it.

    Normalisation by mini-batches cannot take a single sample, which has no variance. With ``drop_last`` a smaller last
    mini-batch is left out instead, but where it is the only one.

    Example:
        >>> [len(batch) for batch in mini_batches(torch.arange(7), 3)]
        [3, 4]
        >>> [len(batch) for batch in mini_batches(torch.arange(7), 3, drop_last=True)]
        [3, 3]
    """
    batches = list(order.split(size))
    if drop_last and len(batches) > 1 and len(batches[-1]) < size:
        return batches[:-1]
    if size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def architecture_rate(samples: int, batch_size: int, epochs: int) -> float:
    """The learning rate of an architecture search's logits, for so long a search; Adam's.

    Adam moves a logit by about its rate at a step, at most. In DARTS (Liu, Simonyan and Yang, ICLR 2019: 3e-4, 50
    epochs of 391 steps) logits can so move by 6. A shorter search has a larger rate here, so that they can move as far
    (0.1 at most, 3e-4 at least): with 3e-4 all of them would stay near 0, and the choice would be chance.

    Example:
        >>> round(architecture_rate(25_000, 64, 50), 4), round(architecture_rate(170, 10, 60), 4)
        (0.0003, 0.0059)
    """
    steps = epochs * -(-samples // batch_size)
    return min(0.1, max(3e-4, 6 / steps))


def train_epoch(
    network: nn.Module,
    optimizer: Optimizer,
    split: Split,
    *,
    batch_size: int,
    seed: int,
    task: str,
    epoch: int,
) -> float:
    """One pass over the data in the order of this (seed, task, epoch); returns the mean loss."""
    network.train()
    order = permutation(len(split), seed, "order", task, epoch)
    total = torch.zeros(())
    with seeded(seed, "dropout", task, epoch):
        for indices in mini_batches(order, batch_size):
            x, y = split.batch(indices)
            loss = cross_entropy(network(to_float(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(y)  # stays a tensor: reading it at every step would cost
    return total.item() / len(split)


@torch.no_grad()
def accuracy(network: nn.Module, split: Split) -> float | None:
    """Share of a split that the network labels rightly, 0 to 1; None where the split is empty."""
    if not len(split):
        return None
    network.eval()
    right = 0
    for indices in torch.arange(len(split)).split(EVALUATION_BATCH):
        x, y = split.batch(indices)
        right += int((network(to_float(x)).argmax(1) == y).sum())
    return right / len(split)


@final
class Fit:
    """The training of one network on one task; complete, as tensors, between any two epochs.

    Args:
        network: what is trained; all of its parameters that want gradients.
        training: how.
        task: on what.
        seed: the seed of the orders and dropouts.
        state: what :meth:`state` gave, to go on from there.
        groups: which of its parameters are trained, each group at its own rate; by default all that want gradients,
            at one.
    """

    def __init__(
        self,
        network: nn.Module,
        training: Training,
        task: Task,
        seed: int,
        state: Mapping[str, Tensor] | None = None,
        *,
        groups: Sequence[Group] | None = None,
    ) -> None:
        self._network, self._training, self._task, self._seed = network, training, task, seed
        trained = [p for p in network.parameters() if p.requires_grad] if groups is None else groups
        self._optimizer = make_optimizer(trained, training)
        self._epoch = 0
        if state:
            self._epoch = int(state["epoch"])
            load_optimizer(self._optimizer, state)

    def run(self) -> Iterator[Epoch]:
        """Train to the end; yields after every epoch."""
        task, training = self._task, self._training
        while self._epoch < training.epochs:
            loss = train_epoch(
                self._network,
                self._optimizer,
                task.train,
                batch_size=training.batch_size,
                seed=self._seed,
                task=task.name,
                epoch=self._epoch,
            )
            self._epoch += 1
            score = accuracy(self._network, task.val)
            yield Epoch(task.name, "train", self._epoch, training.epochs, loss, score)

    def state(self) -> dict[str, Tensor]:
        """The number of epochs done and the optimiser's tensors; the network's are its owner's."""
        return {"epoch": torch.tensor(self._epoch), **optimizer_tensors(self._optimizer)}


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """An optimiser's state as named tensors; its settings are not included."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{key}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entries in state.items()
        for key, value in entries.items()
        if value is not None
    }


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Take back what :func:`optimizer_tensors` gave, into an optimiser made with the same settings."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value.clone()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
