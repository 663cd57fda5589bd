"""Why something was refused: one word for programs, one sentence for people."""

import enum
from dataclasses import dataclass

from stolon.errors import ModuleRefusedError


class Code(enum.StrEnum):
    """The reasons of a refusal; the value is a stable word.

    Attributes:
        sentence: what it means, for the manual and for messages.
        is_reject: whether it counts against the peer that sent it: an honest peer never sends such a thing. The
            others are ignored, since honest peers that trust, know or hold other things do send them.

    Example:
        >>> Code.BAD_SIGNATURE
        <Code.BAD_SIGNATURE: 'bad-signature'>
        >>> Code("other-backbone").is_reject
        False
    """

    sentence: str
    is_reject: bool

    def __new__(cls, word: str, sentence: str, is_reject: bool) -> "Code":  # noqa: FBT001 - a row of the table below
        """Make a member from a row of the table."""
        code = str.__new__(cls, word)
        code._value_ = word
        code.sentence = sentence
        code.is_reject = is_reject
        return code

    TOO_LARGE = "too-large", "It is larger than the limit for its kind.", True
    MALFORMED = "malformed", "Its bytes are not in the one form that stolon writes.", True
    WRONG_TYPE = "wrong-type", "It is signed as another kind of thing than was expected here.", True
    UNKNOWN_AUTHOR = "unknown-author", "Its author is not on the trust list.", False
    REVOKED_KEY = "revoked-key", "Its author's key was revoked.", False
    REVOKED = "revoked", "It was revoked by its author or by a root.", False
    BAD_SIGNATURE = "bad-signature", "Its signature is not that of the key it names.", True
    AUTHOR_MISMATCH = "author-mismatch", "The author it names is not the one who signed it.", True
    WEAK_KEY = "weak-key", "A key in it is one under which anybody can sign.", True
    BAD_MANIFEST = "bad-manifest", "What it says about itself breaks a rule.", True
    UNSUPPORTED = "unsupported", "It is of a kind that this version of stolon does not know.", False
    OTHER_BACKBONE = "other-backbone", "It was learned on another backbone.", False
    OVER_QUOTA = "over-quota", "Its author's share of the bank is used up.", False
    MISSING_BLOB = "missing-blob", "A file that it lists was not delivered.", False
    WRONG_HASH = "wrong-hash", "A file of it is not the one that its author signed.", True
    BAD_BLOB = "bad-blob", "A file of it is not in the one form that stolon writes.", True
    WRONG_TENSORS = "wrong-tensors", "A file of it holds other tensors than its author signed.", True
    NOT_FINITE = "not-finite", "A number in it is infinite or not a number.", True
    BAD_KNOWLEDGE = "bad-knowledge", "Its numbers cannot be what its method learns.", True
    OLD_TRUST = (
        "old-trust",
        "The trust list is older than the one in use, or another one of the same version.",
        False,
    )
    BAD_TRUST = (
        "bad-trust",
        "The trust list or revocation breaks a rule, or too few root keys signed it.",
        True,
    )
    DISK_FULL = "disk-full", "There is no room left for it on this machine.", False


@dataclass(frozen=True)
class Refused:
    """A refusal; nothing was changed.

    Attributes:
        code: why.
        detail: what was expected and what was found.
    """

    code: Code
    detail: str

    def to_error(self) -> ModuleRefusedError:
        """The error to raise where a person is waiting."""
        return ModuleRefusedError(self.code.value, self.detail)
