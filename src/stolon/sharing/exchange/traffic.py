"""How many bytes went out and came in, by kind."""

from typing import Final, Literal, final

from stolon.sharing.exchange import messages
from stolon.sharing.exchange.ports import Traffic

Kind = Literal["hint", "index", "envelope", "blob"]

_KINDS: Final[dict[type[messages.Request], Kind]] = {
    messages.Compare: "index",
    messages.ListIds: "index",
    messages.GetEnvelope: "envelope",
    messages.GetBlob: "blob",
}


def kind_of(request: messages.Request) -> Kind:
    """What a request and its reply count as."""
    return _KINDS[type(request)]


@final
class Counter:
    """A sum of bytes for each kind."""

    def __init__(self) -> None:
        self._bytes: dict[Kind, int] = {"hint": 0, "index": 0, "envelope": 0, "blob": 0}

    def add(self, kind: Kind, size: int) -> None:
        """Count a message of ``size`` bytes."""
        self._bytes[kind] += size

    def plus(self, other: "Counter") -> Traffic:
        """This and another counter's sums, as they are now."""
        return Traffic(**{kind: size + other._bytes[kind] for kind, size in self._bytes.items()})
