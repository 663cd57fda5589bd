"""One task's network: the joint structure, called with the tensors on the task's route."""

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn

from stolon.growth.structure import Structure, Tensors, Unit


@final
class TaskNetwork(nn.Module):
    """Stages by reference, and a head.

    What is trained of it is for its owner to say, by :class:`stolon.training.Group`: most of its tensors belong to
    other tasks as well.

    Args:
        structure: the arrangement.
        units: the parameters of each unit, by reference.
        statistics: the buffers of each stage, by reference; training updates them.
        head: maps features to scores.
    """

    def __init__(
        self,
        structure: Structure,
        units: Mapping[Unit, Tensors],
        statistics: Sequence[Tensors],
        head: nn.Linear,
    ) -> None:
        super().__init__()
        self.staged, self.head = structure.staged, head  # modules, so that train() and eval() reach them
        self._structure, self._units, self._statistics = structure, units, statistics

    def forward(self, x: Tensor) -> Tensor:
        """Scores [B, C] of inputs [B, ...]."""
        scores: Tensor = self.head(self._structure.features(self._stages(), x))
        return scores

    def activations(self, x: Tensor) -> list[Tensor]:
        """Of each unit [B, F], in evaluation mode; see :meth:`Structure.activations`."""
        return self._structure.activations(self._stages(), x)

    def _stages(self) -> list[dict[str, Tensor]]:
        made = self._structure.join(self._units)
        return [
            {**parameters, **measured} for parameters, measured in zip(made, self._statistics, strict=True)
        ]
