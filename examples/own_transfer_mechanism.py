"""A transfer mechanism of one's own: all tasks share a weight, and each adds a correction of low rank.

    python examples/own_transfer_mechanism.py

For a weight of shape [C_out, ...] a task has A [C_out, r] and B [r, ...] and uses W + A B, as LoRA does (Hu et al.,
ICLR 2022): one shared set of features, bent a little for each task. docs/how-to-add-a-transfer-mechanism.md walks
through it.
"""

from typing import ClassVar, final

import torch
from torch import Tensor

from stolon import streams
from stolon.experiments import evaluate
from stolon.transfer.lasem import Lasem, LasemConfig
from stolon.transfer.mechanisms import Mechanism
from stolon.transfer.mechanisms.base import Tensors, glorot


@final
class LowRank(Mechanism):
    """A shared weight, and a task's correction of rank 2 to it."""

    name: ClassVar[str] = "low-rank"
    RANK: ClassVar[int] = 2

    def shared(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """The weight, as the net draws it."""
        return {"weight": initial}

    def factors(self, index: int, initial: Tensor, generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """A [C_out, r], zero, so that a task begins with what is shared; B [r, all that is left of the shape]."""
        rows, columns = initial.flatten(1).shape
        return {
            "a": torch.zeros(rows, self.RANK),
            "b": glorot((self.RANK, columns), columns, self.RANK, generator),
        }

    def kernel(self, index: int, shared: Tensors, factors: Tensors) -> Tensor:
        """W + A B."""
        correction: Tensor = factors["a"] @ factors["b"]
        return shared["weight"] + correction.view(self.kernels[index])

    def penalty(self, factors: Tensors) -> Tensor:
        """How far the task goes from what is shared: the squared norm of A B."""
        return (factors["a"] @ factors["b"]).square().sum()


if __name__ == "__main__":
    stream = streams.make("digits-split", seed=0)
    settings = LasemConfig(
        transfer=LowRank, orthogonality=1e-3, epochs=10, batch_size=32, learning_rate=1e-3, optimizer="adam"
    )
    learner = Lasem("digits-conv", settings)
    for task in stream:
        for _ in learner.learn(task):
            pass
    for task in stream:
        answers = evaluate(learner, task)
        assert answers is not None
        layers = learner.configuration(task.name)  # one digit for each layer: 1 is shared
        print(f"{task.name}: layers {layers}, test accuracy {answers.accuracy:.2f}")
    size = learner.size()
    print(
        f"{size.shared} numbers are shared, {sum(size.per_task.values()) // len(stream)} are each task's own"
    )
