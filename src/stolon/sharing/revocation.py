"""Taking back what was shared: a signed, lasting word against modules or keys.

A revocation is an item of the bank like a module: it has an id, travels by the exchange, and the set of
them only grows. There are two kinds. An *author's* takes back modules of their own; it says nothing about
anybody else's, whatever ids it lists. A *root's* takes out any module and any key, and is signed by as many
roots as a trust list must be.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from stolon.sharing import strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import (
    REVOCATION,
    Envelope,
    check_signers,
    open_envelope,
    payload_id,
    seal,
)
from stolon.sharing.keys import HEX, Key
from stolon.sharing.trust import SCHEMA, Trust, document

_DEPTH: Final = 2

Role = Literal["author", "root"]


@dataclass(frozen=True)
class Revocation:
    """A word against modules or keys.

    Attributes:
        author: the public key of who says it.
        modules: ids of modules.
        keys: public keys; only roots may revoke them.
        role: in which role it is said: as the author of the modules, or as a root.
    """

    author: str
    modules: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    role: Role = "author"

    @property
    def id(self) -> str:
        """SHA-256 of the payload."""
        return payload_id(self.to_payload())

    def to_payload(self) -> bytes:
        """Canonical JSON, to be sealed as :data:`~stolon.sharing.envelope.REVOCATION`."""
        return strict_json.dumps(
            {
                "schema": SCHEMA,
                "author": self.author,
                "role": self.role,
                "modules": sorted(self.modules),
                "keys": sorted(self.keys),
            }
        )

    def covers(self, module: str, author: str) -> bool:
        """Whether it takes out this module of this author.

        Example:
            >>> word = Revocation("a" * 64, modules=frozenset({"1" * 64}))
            >>> word.covers("1" * 64, author="a" * 64), word.covers("1" * 64, author="b" * 64)
            (True, False)
        """
        if self.role == "author":
            return author == self.author and module in self.modules
        return module in self.modules or author in self.keys


def revoke(key: Key, *modules: str) -> bytes:
    """The sealed envelope by which an author takes back modules of their own."""
    word = Revocation(key.public, frozenset(modules))
    return seal(REVOCATION, word.to_payload(), key)


def revoke_as_root(roots: Sequence[Key], *, modules: Iterable[str] = (), keys: Iterable[str] = ()) -> bytes:
    """The sealed envelope by which roots take out anybody's modules or keys."""
    first = min(root.public for root in roots)
    word = Revocation(first, frozenset(modules), frozenset(keys), "root")
    return seal(REVOCATION, word.to_payload(), *roots)


def accept_revocation(data: bytes, trust: Trust) -> Revocation | Refused:
    """Decide on a revocation; pure, changes nothing.

    Args:
        data: a sealed envelope.
        trust: whom to listen to.
    """
    envelope = open_envelope(data)
    if isinstance(envelope, Refused):
        return envelope
    if envelope.type != REVOCATION:
        return Refused(Code.WRONG_TYPE, f"expected a revocation, found {envelope.type}")
    refused = _unlisted(envelope, trust) or check_signers(envelope)
    if refused is not None:
        return refused
    made = parse(envelope.payload)
    if isinstance(made, Refused):
        return made
    return _unentitled(made, set(envelope.signers), trust) or made


def parse(payload: bytes) -> Revocation | Refused:
    """Read a revocation whose signatures are verified."""
    value = document("revocation", payload, _DEPTH)
    if isinstance(value, Refused):
        return value
    try:
        fields = strict_json.fields(value, "schema", "author", "role", "modules", "keys")
        made = Revocation(
            author=strict_json.text(fields["author"], HEX),
            modules=frozenset(strict_json.texts(fields["modules"], HEX)),
            keys=frozenset(strict_json.texts(fields["keys"], HEX)),
            role=_role(fields["role"]),
        )
    except strict_json.JsonError as error:
        return Refused(Code.BAD_TRUST, f"in the revocation: {error}")
    if made.to_payload() != payload or not made.modules | made.keys:
        return Refused(Code.BAD_TRUST, "a revocation lists at least one id, in ascending order, each once")
    return made


def applied(trust: Trust, revocations: Iterable[Revocation]) -> Trust:
    """The trust list as it is after these roots' revocations: their keys and modules are revoked in it, too.

    The order makes no difference. Authors' own revocations change nobody's trust; see
    :meth:`Revocation.covers`.
    """
    by_roots = [word for word in revocations if word.role == "root"]
    keys = trust.revoked_keys.union(*(word.keys for word in by_roots))
    return replace(
        trust,
        authors=tuple(author for author in trust.authors if author.key not in keys),
        revoked_keys=keys,
        revoked_modules=trust.revoked_modules.union(*(word.modules for word in by_roots)),
    )


def _role(value: strict_json.Json) -> Role:
    if value == "author":
        return "author"
    if value == "root":
        return "root"
    raise strict_json.JsonError(f"expected the role author or root, found {str(value)[:40]!r}")


def _unlisted(envelope: Envelope, trust: Trust) -> Refused | None:
    for keyid in envelope.signers:
        if keyid in trust.revoked_keys:
            return Refused(Code.REVOKED_KEY, f"the key {keyid} was revoked")
        if trust.author(keyid) is None and keyid not in trust.roots:
            return Refused(Code.UNKNOWN_AUTHOR, f"{keyid} is not on the trust list")
    return None


def _unentitled(word: Revocation, signers: set[str], trust: Trust) -> Refused | None:
    """What its signers may not say."""
    if word.role == "root":
        if len(signers.intersection(trust.roots)) < trust.threshold:
            return Refused(Code.BAD_TRUST, f"not signed by {trust.threshold} of the roots")
        if word.keys.intersection(trust.roots):
            return Refused(Code.BAD_TRUST, "a root's key is taken out by a new trust list only")
    elif word.keys:
        return Refused(Code.BAD_TRUST, "only roots may revoke keys")
    if word.author not in signers or (word.role == "author" and len(signers) > 1):
        return Refused(Code.AUTHOR_MISMATCH, f"said by {word.author}, signed by {', '.join(sorted(signers))}")
    return None
