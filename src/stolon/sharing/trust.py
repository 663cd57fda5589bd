"""Whom an agent listens to: a signed list of authors, of the roots that may change it, and of what was revoked.

A fresh agent trusts only itself: its own key is the one root and the first author. Every change makes a new
version, which enough of the roots sign; an agent takes a higher version only, and never goes back. There are
no clocks in it: a list holds until a newer one comes.

Source:
    The Update Framework 1.0, https://theupdateframework.github.io/specification/ (root keys with a threshold,
    new roots signed by old and new ones). Unlike there, nothing expires.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Self

from stolon.errors import TaskError
from stolon.sharing import strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import TRUST, check_signers, open_envelope
from stolon.sharing.keys import HEX, check_public
from stolon.sharing.limits import (
    MAX_BANK,
    MAX_BYTES_PER_AUTHOR,
    MAX_MANIFEST,
    MAX_MODULES_PER_AUTHOR,
    MAX_ROOTS,
)
from stolon.sharing.manifest import check_name

SCHEMA: Final = 1
_DEPTH: Final = 3
_LAST: Final = 2**53  # versions stay exact in every reader of JSON


@dataclass(frozen=True)
class Author:
    """Somebody whose modules are taken in.

    Attributes:
        key: their public key.
        name: what they are called here.
        activate: whether their modules may be answered from, or are only kept and passed on.
        modules: how many of their modules are kept.
        bytes: how many bytes of them.
    """

    key: str
    name: str
    activate: bool = True
    modules: int = MAX_MODULES_PER_AUTHOR
    bytes: int = MAX_BYTES_PER_AUTHOR


@dataclass(frozen=True)
class Trust:
    """A trust list.

    Attributes:
        version: counts up with every change.
        roots: the keys that may change the list, in ascending order.
        threshold: how many of them it takes.
        authors: who is listened to, the first first wherever an order is needed.
        revoked_keys: keys that are listened to no more, whoever signs with them.
        revoked_modules: ids of modules that are out of use, whoever taught them.

    Example:
        >>> from stolon.sharing.keys import Key
        >>> me, peer = Key.generate(), Key.generate()
        >>> trust = Trust.fresh(me.public).adding(Author(peer.public, "Ada"))
        >>> trust.version, [author.name for author in trust.authors]
        (2, ['me', 'Ada'])
        >>> trust.revoking(peer.public).author(peer.public) is None
        True
    """

    version: int
    roots: tuple[str, ...]
    threshold: int
    authors: tuple[Author, ...]
    revoked_keys: frozenset[str] = frozenset()
    revoked_modules: frozenset[str] = frozenset()

    @classmethod
    def fresh(cls, key: str, name: str = "me") -> Self:
        """The list of an agent that has met nobody: it trusts only its own public key."""
        return cls(1, (key,), 1, (Author(key, name),))

    def author(self, key: str) -> Author | None:
        """Who owns the key, or None where nobody listed does."""
        return self._by_key.get(key)

    def adding(self, author: Author) -> Self:
        """The next version, with one more author, or with a listed one's name or quota changed.

        Where the quotas would add up to more than the bank holds, the largest are cut to an equal share.

        Raises:
            ModuleRefusedError: the key is weak or revoked, or the name is taken or not a plain name.
        """
        if author.key in self.revoked_keys:
            raise Refused(
                Code.REVOKED_KEY, f"the key {author.key} was revoked; ask {author.name} for a new one"
            ).to_error()
        known = self.author(author.key) is not None
        authors = [author if one.key == author.key else one for one in self.authors]
        return self._next(authors=_fitting(authors if known else [*authors, author]))

    def revoking(self, what: str) -> Self:
        """The next version, without an author (given by key) or a module (given by id), for good.

        What is revoked already gives this version unchanged.

        Raises:
            ModuleRefusedError: it is a root's key, or neither a key nor an id.
        """
        if what in self.revoked_keys | self.revoked_modules:
            return self
        if what in self.roots:
            raise Refused(
                Code.BAD_TRUST, f"{what} is a root of this list; only a list with other roots can take it out"
            ).to_error()
        if self.author(what) is None:
            return self._next(revoked_modules=self.revoked_modules | {what})
        authors = tuple(one for one in self.authors if one.key != what)
        return self._next(authors=authors, revoked_keys=self.revoked_keys | {what})

    def to_payload(self) -> bytes:
        """The list as canonical JSON, to be sealed as :data:`~stolon.sharing.envelope.TRUST`."""
        return strict_json.dumps(
            {
                "schema": SCHEMA,
                "version": self.version,
                "roots": self.roots,
                "threshold": self.threshold,
                "authors": [vars(author) for author in self.authors],
                "revoked": {"keys": sorted(self.revoked_keys), "modules": sorted(self.revoked_modules)},
            }
        )

    @cached_property
    def _by_key(self) -> dict[str, Author]:
        return {author.key: author for author in self.authors}

    def _next(self, **changes: object) -> Self:
        made = replace(self, version=self.version + 1, **changes)  # type: ignore[arg-type]  # three known fields
        checked = parse(made.to_payload())
        if isinstance(checked, Refused):
            raise checked.to_error()
        return made


def accept_trust(data: bytes, current: Trust | None) -> Trust | Refused:
    """Decide on a trust list; pure, changes nothing.

    Args:
        data: a sealed envelope.
        current: the list in use, or None where there is none yet; then the new one must be signed by its own
            roots, and it is up to the caller where it came from.

    Returns:
        The list, or why it is refused. The list in use itself is accepted again.
    """
    envelope = open_envelope(data)
    if isinstance(envelope, Refused):
        return envelope
    if envelope.type != TRUST:
        return Refused(Code.WRONG_TYPE, f"expected a trust list, found {envelope.type}")
    refused = check_signers(envelope)
    if refused is not None:
        return refused
    signers = set(envelope.signers)
    if current is not None and len(signers.intersection(current.roots)) < current.threshold:
        return Refused(
            Code.BAD_TRUST,
            f"not signed by {current.threshold} of the roots of version {current.version}, the one in use",
        )
    made = parse(envelope.payload)
    if isinstance(made, Refused):
        return made
    return _signed_by_new(made, current, signers) or _older(made, current) or made


def parse(payload: bytes) -> Trust | Refused:
    """Read a trust list whose signatures are verified, and check every rule that it must keep by itself."""
    value = document("trust list", payload, _DEPTH)
    if isinstance(value, Refused):
        return value
    try:
        made = _shape(value)
    except strict_json.JsonError as error:
        return Refused(Code.BAD_TRUST, f"in the trust list: {error}")
    return _weak(made) or _broken_rule(made) or made


def document(what: str, payload: bytes, depth: int) -> strict_json.Json | Refused:
    """The JSON value of a payload of schema 1, or why it is none; what lies in it is not looked at."""
    if len(payload) > MAX_MANIFEST:
        return Refused(Code.TOO_LARGE, f"a {what} has at most {MAX_MANIFEST:,} bytes, not {len(payload):,}")
    try:
        value = strict_json.loads(payload, most=MAX_MANIFEST, depth=depth, canonical=True)
    except strict_json.JsonError as error:
        return Refused(Code.MALFORMED, f"not a {what}: {error}")
    if isinstance(value, dict) and not strict_json.is_integer(value.get("schema"), SCHEMA):
        found = str(value.get("schema"))[:40]
        return Refused(Code.UNSUPPORTED, f"expected a {what} of schema {SCHEMA}, found {found}")
    return value


def _shape(value: strict_json.Json) -> Trust:
    fields = strict_json.fields(value, "schema", "version", "roots", "threshold", "authors", "revoked")
    revoked = strict_json.fields(fields["revoked"], "keys", "modules")
    roots = _ascending(fields["roots"])
    if not 1 <= len(roots) <= MAX_ROOTS:
        raise strict_json.JsonError(f"expected 1 to {MAX_ROOTS} roots, found {len(roots)}")
    if not isinstance(fields["authors"], list):
        raise strict_json.JsonError("expected a list of authors")
    return Trust(
        version=strict_json.whole(fields["version"], 1, _LAST),
        roots=roots,
        threshold=strict_json.whole(fields["threshold"], 1, len(roots)),
        authors=tuple(_author(entry) for entry in fields["authors"]),
        revoked_keys=frozenset(_ascending(revoked["keys"])),
        revoked_modules=frozenset(_ascending(revoked["modules"])),
    )


def _ascending(value: strict_json.Json) -> tuple[str, ...]:
    entries = strict_json.texts(value, HEX)
    if list(entries) != sorted(set(entries)):
        raise strict_json.JsonError("expected keys or ids in ascending order, each once")
    return entries


def _author(value: strict_json.Json) -> Author:
    fields = strict_json.fields(value, "key", "name", "activate", "modules", "bytes")
    if not isinstance(fields["activate"], bool):
        raise strict_json.JsonError("expected true or false for activate")
    return Author(
        key=strict_json.text(fields["key"], HEX),
        name=_name(fields["name"]),
        activate=fields["activate"],
        modules=strict_json.whole(fields["modules"], 1, MAX_MODULES_PER_AUTHOR),
        bytes=strict_json.whole(fields["bytes"], 1, MAX_BYTES_PER_AUTHOR),
    )


def _name(value: strict_json.Json) -> str:
    try:
        check_name("author", value)
    except TaskError as error:
        raise strict_json.JsonError(str(error)) from None
    return strict_json.text(value)


def _weak(trust: Trust) -> Refused | None:
    for key in (*trust.roots, *(author.key for author in trust.authors)):
        refused = check_public(key)
        if refused is not None:
            return refused
    return None


def _broken_rule(trust: Trust) -> Refused | None:
    keys = [author.key for author in trust.authors]
    for kind, values in (("key", keys), ("name", [author.name.casefold() for author in trust.authors])):
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            return Refused(
                Code.BAD_TRUST, f"two authors have the {kind} {twice[0]!r}; each needs another one"
            )
    both = trust.revoked_keys.intersection((*trust.roots, *keys))
    if both:
        return Refused(Code.BAD_TRUST, f"the key {min(both)} is revoked, and yet a root or an author")
    total = sum(author.bytes for author in trust.authors)
    if total > MAX_BANK:
        return Refused(
            Code.BAD_TRUST,
            f"the authors' quotas add up to {total:,} bytes, and a bank holds {MAX_BANK:,}; lower some",
        )
    return None


def _signed_by_new(made: Trust, current: Trust | None, signers: set[str]) -> Refused | None:
    """New roots agree as well, and each newcomer among them shows that it has its key."""
    if len(signers.intersection(made.roots)) < made.threshold:
        return Refused(Code.BAD_TRUST, f"not signed by {made.threshold} of its own roots")
    silent = set() if current is None else set(made.roots) - set(current.roots) - signers
    if silent:
        return Refused(Code.BAD_TRUST, f"the new root {min(silent)} has not signed it")
    return None


def _older(made: Trust, current: Trust | None) -> Refused | None:
    if current is None or made.version > current.version or made == current:
        return None
    return Refused(
        Code.OLD_TRUST, f"expected a version above {current.version}, the one in use; found {made.version}"
    )


def _fitting(authors: Iterable[Author]) -> tuple[Author, ...]:
    """The same authors, the largest quotas cut to the highest level at which all fit into a bank."""
    authors = tuple(authors)
    room, level = MAX_BANK, MAX_BYTES_PER_AUTHOR
    quotas = sorted(author.bytes for author in authors)
    for i, quota in enumerate(quotas):
        share = room // (len(quotas) - i)
        if quota > share:
            level = share
            break
        room -= quota
    return tuple(replace(author, bytes=min(author.bytes, level)) for author in authors)
