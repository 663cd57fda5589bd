"""Transfer mechanisms by name: ``mechanisms.find("tensor-factorization")``."""

from typing import Final

from stolon.errors import UnknownNameError
from stolon.transfer.mechanisms.base import Mechanism
from stolon.transfer.mechanisms.deconvolution import Deconvolution
from stolon.transfer.mechanisms.hard import Hard
from stolon.transfer.mechanisms.tensor_factorization import TensorFactorization

__all__ = ["Deconvolution", "Hard", "Mechanism", "TensorFactorization", "find", "names"]

_ALL: Final[dict[str, type[Mechanism]]] = {
    kind.name: kind for kind in (Hard, TensorFactorization, Deconvolution)
}


def names() -> tuple[str, ...]:
    """The mechanisms that :func:`find` knows."""
    return tuple(_ALL)


def find(name: str) -> type[Mechanism]:
    """A mechanism by name.

    Raises:
        UnknownNameError: no such mechanism.
    """
    if name not in _ALL:
        raise UnknownNameError("transfer mechanism", name, names())
    return _ALL[name]
