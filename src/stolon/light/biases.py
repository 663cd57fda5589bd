r"""Beneficial biases: one number per neuron that re-tunes a frozen backbone for one task.

For every convolution and every linear layer of the backbone (Ge et al., TMLR 2023, Eq. 1 and 2):

.. math::
    y = \mathrm{Conv}(x) + b + B \qquad y = \mathrm{FC}(x) + b + B

with :math:`b` the backbone's own frozen bias (or none) and :math:`B` the task's, one per output channel. All
biases of a task are one flat tensor, so they are stored, sent and optimised as one.

Differences from the paper and its code: the released code adds the biases along the wrong axis (it views
N, C, H, W as N, H, W, C); here each channel gets its own. ``"pointwise"`` leaves out depthwise convolutions.
"""

from typing import Literal, final

import torch
from torch import Tensor, nn

from stolon.errors import BackboneError

Sites = Literal["all", "pointwise"]


@final
class BiasSites:
    """Where a module takes biases, in the order of its layers.

    Args:
        module: the frozen network.
        sites: ``"all"`` convolutions and linear layers, or ``"pointwise"``: without depthwise convolutions.

    Raises:
        BackboneError: there is no such layer.
    """

    def __init__(self, module: nn.Module, sites: Sites = "all") -> None:
        layers = {
            name: layer
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
            and not (sites == "pointwise" and _is_depthwise(layer))
        }
        if not layers:
            raise BackboneError("expected a backbone with convolutions or linear layers, found none to bias")
        self._own = {f"{name}.bias": layer.bias for name, layer in layers.items()}
        self._widths = [int(layer.weight.shape[0]) for layer in layers.values()]

    @property
    def total(self) -> int:
        """How many biases there are: one per output channel of every site."""
        return sum(self._widths)

    def parameters(self, biases: Tensor) -> dict[str, Tensor]:
        """The bias parameters b + B by name, from all of B as one flat tensor [total]."""
        parts = biases.split(self._widths)
        return {
            name: part if own is None else own + part
            for (name, own), part in zip(self._own.items(), parts, strict=True)
        }

    def zeros(self) -> Tensor:
        """The biases that change nothing, float [total]."""
        return torch.zeros(self.total)


def _is_depthwise(layer: nn.Module) -> bool:
    groups = getattr(layer, "groups", 1)
    return bool(groups > 1 and groups == getattr(layer, "in_channels", 0))
