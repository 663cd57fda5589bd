"""Toy tasks and settings for the tests of searches."""

from tests.learner_contract import toy_task

from stolon.growth.config import BindAndGrowConfig

NET = "mlp-8-8"
CONFIG = BindAndGrowConfig(epochs=1, batch_size=12, learning_rate=0.1)
TASKS = tuple(toy_task(name, seed) for seed, name in enumerate(("one", "two", "three"), 1))
NAMES = ("one", "two", "three")
