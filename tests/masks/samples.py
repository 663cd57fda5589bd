"""Small learners with masks and what they learned, made once: nobody may change them."""

from functools import lru_cache

import torch
from tests.learner_contract import toy_task
from torch import nn

from stolon import learners

FAST = {
    "epochs": 1,
    "batch_size": 16,
    "learning_rate": 0.02,
    "optimizer": "adam",
    "density": 0.3,
    "outputs": 8,
}
SUMS = {"alpha_epochs": 1, "alpha_batch_size": 16, "alpha_learning_rate": 0.1, "alpha_optimizer": "adam"}


def normed() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten())


VARIANTS = {
    "supsup": ("supsup", "mlp-16", {}),
    "signed": ("supsup", "mlp-16", {"values": "signed"}),
    "real": ("supsup", "mlp-16", {"values": "real"}),
    "normed": ("supsup", normed, {}),
    "open": ("supsup", "mlp-16", {"outputs": None}),
    "random": ("impressions", "mlp-16", {"basis": "random", "impressions": 5}),
    "first-tasks": ("impressions", "mlp-16-12", {"impressions": 2}),
    "hybrid": ("impressions", normed, {"basis": "random", "impressions": 3, "hybrid": True}),
    "real-sums": ("impressions", "mlp-16", {"impressions": 1, "values": "real", "form": "plain"}),
    "signed-hybrid": ("impressions", "mlp-16", {"impressions": 1, "values": "signed", "hybrid": True}),
}


def make(variant, **settings):
    """A learner that knows nothing yet."""
    method, net, own = VARIANTS[variant]
    sums = SUMS if method == "impressions" else {}
    return learners.make(method, net=net() if callable(net) else net, **{**FAST, **sums, **own, **settings})


def tasks():
    return [toy_task("a", 1), toy_task("b", 2, classes=2), toy_task("c", 3)]


def learned(variant, **settings):
    """One that has learned three tasks."""
    learner = make(variant, **settings)
    for task in tasks():
        list(learner.learn(task))
    return learner


author = lru_cache(learned)
