"""A bank as the exchange sees it."""

from collections.abc import Mapping
from typing import final

from stolon.sharing.bank import Bank
from stolon.sharing.codes import Refused
from stolon.sharing.exchange.ports import Wanted


@final
class BankHoldings:
    """A bank whose every module must be of one backbone.

    Args:
        bank: open for writing.
        backbone: fingerprint of the backbone; what was learned on another is not fetched.
    """

    def __init__(self, bank: Bank, backbone: str) -> None:
        self._bank, self._backbone = bank, backbone

    def ids(self) -> frozenset[str]:
        """Identifiers of all that is held whole."""
        return self._bank.ids()

    def envelope(self, id: str) -> bytes | None:  # noqa: A002 - the field's own word
        """An envelope, checked."""
        return self._bank.envelope(id)

    def blob(self, sha: str) -> bytes | None:
        """A blob, checked."""
        return self._bank.blob(sha)

    def judge(self, envelope: bytes) -> Wanted | Refused:
        """Everything that can be checked before blobs are fetched."""
        judged = self._bank.judge(envelope, self._backbone)
        return judged if isinstance(judged, Refused) else Wanted(judged.id, judged.blobs)

    def commit(self, envelope: bytes, blobs: Mapping[str, bytes]) -> str | Refused:
        """Take in what a peer sent, durably."""
        return self._bank.commit(envelope, blobs, self._backbone)
