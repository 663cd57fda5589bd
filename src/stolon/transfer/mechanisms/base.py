"""What a transfer mechanism is: how a shared layer's weights are made of what is shared and what is a task's own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]


class Mechanism(ABC):
    """Makes the weights of shared layers.

    A user adds one by writing such a class and passing it as ``transfer=``; see docs/how-to-add-a-transfer-mechanism.

    Args:
        kernels: the shapes of the weights that can be transferred, in order: [C_out, C_in, k, k] of convolutions,
            [out, in] of linear layers.

    Raises:
        SettingError: it cannot make a weight of such a shape.
    """

    name: ClassVar[str]
    """What it is called in settings."""
    shares_all: ClassVar[bool] = False
    """Whether biases and normalisation of a shared layer are shared too; else they are the task's own."""
    by_channel: ClassVar[bool] = False
    """Whether rows of the shared tensors are output channels, so that some can go back to what they were."""

    def __init__(self, kernels: Sequence[torch.Size]) -> None:
        self.kernels = tuple(kernels)

    @abstractmethod
    def shared(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What all tasks share of a weight, freshly drawn: made once, before the first task.

        Args:
            index: which of the kernels.
            initial: the weight as the net itself draws it.
            generator: for other draws.
        """

    @abstractmethod
    def factors(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """What a task has of its own to make the weight from the shared tensors, freshly drawn; may be empty."""

    @abstractmethod
    def kernel(self, index: int, shared: Tensors, factors: Tensors) -> Tensor:
        """The weight, of the kernel's shape; gradients flow to both."""

    def bias(self, initial: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002 - for those that draw
        """A shared layer's bias or other parameter where it is the task's own; by default as the net draws it."""
        return initial

    def penalty(self, factors: Tensors) -> Tensor | None:  # noqa: ARG002 - for those that have one
        """What is added to the loss for a shared layer, a number; None where there is nothing."""
        return None


def glorot(shape: Sequence[int], fan_in: int, fan_out: int, generator: torch.Generator) -> Tensor:
    """Glorot's uniform draw: variance 2 / (fan_in + fan_out)."""
    limit = (6 / (fan_in + fan_out)) ** 0.5
    drawn: Tensor = (torch.rand(tuple(shape), generator=generator) * 2 - 1) * limit
    return drawn
