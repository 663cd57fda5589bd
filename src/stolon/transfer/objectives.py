"""What a network's outputs are worth: log-likelihoods of labels, or of numbers."""

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def log_likelihood(outputs: Tensor, y: Tensor) -> Tensor:
    """Log-likelihood of each sample under each of K sets of outputs, [K, B].

    Args:
        outputs: [K, B, C]: scores of classes, or predicted numbers.
        y: class indices [B], or numbers [B, C]; for these the outputs are the means of Gaussians of unit variance.
    """
    if not y.is_floating_point():
        count, batch, classes = outputs.shape
        scores = outputs.reshape(count * batch, classes)
        return -cross_entropy(scores, y.repeat(count), reduction="none").view(count, batch)
    return -0.5 * ((outputs - y) ** 2 + math.log(2 * math.pi)).sum(2)


def loss(outputs: Tensor, y: Tensor) -> Tensor:
    """Mean negative log-likelihood of the samples for each of K sets of outputs [K]; of numbers up to a constant."""
    if not y.is_floating_point():
        return -log_likelihood(outputs, y).mean(1)
    return 0.5 * ((outputs - y) ** 2).sum(2).mean(1)


def accuracy_of(outputs: Tensor, y: Tensor) -> float | None:
    """Share of samples that are labelled rightly; of numbers the coefficient of determination."""
    if not y.is_floating_point():
        return float((outputs.argmax(1) == y).float().mean())
    from stolon.evaluation import determination

    return determination(outputs.detach(), y)


def concatenated(batches: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Outputs and labels of several batches as one."""
    outputs, labels = zip(*batches, strict=True)
    return torch.cat(outputs), torch.cat(labels)
