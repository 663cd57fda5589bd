"""Running statistics of normalisation layers, measured for one configuration.

While configurations are tried, each mini-batch is normalised by itself. What a task is answered with is one of them,
so its statistics are measured by a pass over training data through that one ("precise" batch normalisation), and they
are the task's own: other tasks' inputs have others.
"""

from typing import Final

import torch
from torch import nn

from stolon.tasks import Split, to_float
from stolon.transfer import prefix
from stolon.transfer.configurations import Configuration
from stolon.transfer.network import Layers, Network, Parts, as_input

SAMPLES: Final = 1024
"""Training samples that are looked at, the first ones: means and variances of channels need no more."""
BATCH: Final = 128


@torch.no_grad()
def measured(
    network: Network, shared: Layers, parts: Parts, configuration: Configuration, split: Split
) -> Layers:
    """Means and variances over training samples, batch by batch averaged, by layer and name."""
    chosen = network.chosen(shared, parts, configuration)
    momenta = {}
    for stage in network.stages:
        stage.eval()  # nothing drops out
        for module in stage.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.train()
                module.reset_running_stats()
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                momenta[module], module.momentum = module.momentum, None  # None: the plain mean over batches
    for indices in torch.arange(min(len(split), SAMPLES)).split(BATCH):
        x = as_input(to_float(split.batch(indices)[0]))
        for stage, made in zip(network.stages, chosen, strict=True):
            x = prefix.apply(stage, made, x)
    for module, momentum in momenta.items():
        module.momentum = momentum
    return [{name: value.clone() for name, value in stage.named_buffers()} for stage in network.stages]
