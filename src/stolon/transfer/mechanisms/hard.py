"""Hard parameter sharing: a shared layer has one set of weights and biases for all tasks (Caruana, 1997)."""

from typing import ClassVar, final

import torch
from torch import Tensor

from stolon.transfer.mechanisms.base import Mechanism, Tensors


@final
class Hard(Mechanism):
    """One weight and one bias for all tasks that share the layer."""

    name: ClassVar[str] = "hard"
    shares_all: ClassVar[bool] = True
    by_channel: ClassVar[bool] = True

    def shared(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """The weight itself, as the net draws it."""
        return {"weight": initial}

    def factors(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Nothing."""
        return {}

    def kernel(self, index: int, shared: Tensors, factors: Tensors) -> Tensor:  # noqa: ARG002
        """The shared weight."""
        return shared["weight"]
