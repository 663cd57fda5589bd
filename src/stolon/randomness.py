"""Randomness as a pure function of (seed, purpose, ...): nothing to save, nothing hidden.

Every random choice in stolon names what it is for, so that a run that was stopped, or that asks in
another order, gets the same numbers::

    order = permutation(len(split), seed, "order", task.name, epoch)
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def number(seed: int, *purpose: str | int) -> int:
    """A 63-bit integer that depends on the seed and the purpose alone.

    Example:
        >>> number(0, "order", "digits", 1) == number(0, "order", "digits", 1)
        True
        >>> number(0, "order", "digits", 1) == number(0, "order", "digits", 2)
        False
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose."""
    return torch.Generator().manual_seed(number(seed, *purpose))


def permutation(n: int, seed: int, *purpose: str | int) -> Tensor:
    """A random order of ``n`` things, as int64 indices [n]."""
    return torch.randperm(n, generator=generator(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Make code that insists on torch's global generator reproducible, and leave no trace of it.

    Meant for layers' own initialisation and for dropout, which take no generator.
    """
    with torch.random.fork_rng():
        torch.manual_seed(number(seed, *purpose))
        yield
