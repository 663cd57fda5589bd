"""What a bank holds: the part of all that is known which a trust list and the quotas let in. No files.

It is a function of the set of what is known and of the trust list, not of the order of arrival. Roots'
revocations come first, for they change who is listened to (:func:`stolon.sharing.revocation.applied`); then
authors' revocations; then modules, each author's by itself (:func:`stolon.sharing.view.kept`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from stolon.sharing import view
from stolon.sharing.codes import Refused
from stolon.sharing.limits import MAX_MODULES_PER_AUTHOR, MAX_VERSIONS
from stolon.sharing.manifest import Manifest
from stolon.sharing.revocation import Revocation, accept_revocation, applied
from stolon.sharing.trust import Trust

NOBODY: Final = Trust(0, (), 1, ())
"""The trust list of a bank that was given none: it takes nothing."""
MAX_WORDS: Final = MAX_MODULES_PER_AUTHOR
"""Revocations that are kept of one author; of more, those with the lowest ids."""


@final
@dataclass(frozen=True)
class Known:
    """Something that is signed rightly, whoever signed it.

    Attributes:
        sha256: of the envelope's bytes.
        size: of the envelope, bytes.
        arrived: when it came, by this machine's clock, seconds since 1970.
        manifest: of a module; None for a revocation.
        word: a revocation's envelope.
    """

    sha256: str
    size: int
    arrived: float
    manifest: Manifest | None = None
    word: bytes = b""


@final
class Held:
    """What is held of what is known; answers acceptance's questions.

    Args:
        known: by id.
        trust: whom to listen to.
        before: what was held until now; saves verifying again what was verified under the same trust.

    Attributes:
        base: the trust list.
        trust: the same with roots' revocations applied.
        words: revocations, by id.
        modules: by id, also those that their author took back.
    """

    def __init__(
        self, known: Mapping[str, Known], trust: Trust = NOBODY, before: "Held | None" = None
    ) -> None:
        said = {id_: one.word for id_, one in known.items() if one.manifest is None}
        self._by_base: _Verdicts = _Verdicts(trust, None if before is None else before._by_base)
        roots = {id_: word for id_, word in self._by_base.accepted(said).items() if word.role == "root"}
        self.base, self.trust = trust, applied(trust, roots.values())
        self._by_trust: _Verdicts = _Verdicts(self.trust, None if before is None else before._by_trust)
        self.words: dict[str, Revocation] = {**self._by_trust.accepted(said), **roots}
        for id_ in self._surplus_words():
            del self.words[id_]
        self._taken_back = {(word.author, module) for word in self.words.values() for module in word.modules}
        self.modules: dict[str, Manifest] = {}
        self._shelves: dict[str, _Shelf] = {}
        by_author: dict[str, dict[str, Manifest]] = {}
        for id_, one in known.items():
            if one.manifest is not None and self.admits(id_, one.manifest.author):
                by_author.setdefault(one.manifest.author, {})[id_] = one.manifest
        for author, manifests in by_author.items():
            shelf = self._shelves[author] = _Shelf(*self._quota(author))
            shelf.fill(manifests)
            self.modules |= shelf.manifests

    def admits(self, id_: str, author: str) -> bool:
        """Whether the trust list lets a module of this author in."""
        return (
            self.trust.author(author) is not None
            and author not in self.trust.revoked_keys
            and id_ not in self.trust.revoked_modules
        )

    def is_revoked(self, id_: str, author: str) -> bool:
        """Whether the author took this module of theirs back."""
        return (author, id_) in self._taken_back

    def has_room(self, id_: str, module: Manifest) -> bool:
        """Whether a module of a listed author would be kept beside what is held of them."""
        shelf = self._shelves.get(module.author) or _Shelf(*self._quota(module.author))
        return id_ in shelf.manifests or id_ in shelf.after(id_, module)

    def has_room_for_word(self, id_: str, word: Revocation) -> bool:
        """Whether a revocation would be kept beside its author's others."""
        others = [other for other, said in self.words.items() if said.author == word.author]
        return word.role == "root" or id_ in self.words or len(others) < MAX_WORDS or id_ < max(others)

    def add_module(self, id_: str, module: Manifest) -> set[str]:
        """Take a module in that there is room for; the ids of others of its author that leave for it."""
        shelf = self._shelves.setdefault(module.author, _Shelf(*self._quota(module.author)))
        left = shelf.fill({**shelf.manifests, id_: module})
        for gone in left:
            del self.modules[gone]
        self.modules[id_] = module
        return left

    @property
    def ids(self) -> frozenset[str]:
        """Of everything held."""
        return frozenset(self.modules) | frozenset(self.words)

    def is_live(self, id_: str) -> bool:
        """Whether it is a module that nobody took back: one whose blobs are needed."""
        return id_ in self.modules and not self.is_revoked(id_, self.modules[id_].author)

    def _quota(self, author: str) -> tuple[int, int]:
        listed = self.trust.author(author)
        return (0, 0) if listed is None else (listed.modules, listed.bytes)

    def _surplus_words(self) -> list[str]:
        by_author: dict[str, list[str]] = {}
        for id_, word in self.words.items():
            if word.role == "author":
                by_author.setdefault(word.author, []).append(id_)
        return [id_ for ids in by_author.values() for id_ in sorted(ids)[MAX_WORDS:]]


class _Shelf:
    """The modules of one author: always what :func:`stolon.sharing.view.kept` keeps of them."""

    def __init__(self, modules: int, most_bytes: int) -> None:
        self._modules, self._most_bytes = modules, most_bytes
        self.manifests: dict[str, Manifest] = {}
        self._bytes = 0
        self._versions: dict[str, int] = {}

    def after(self, id_: str, module: Manifest) -> frozenset[str]:
        """The ids that would be kept with one more."""
        if self._is_roomy(module):
            return frozenset((*self.manifests, id_))
        return view.kept({**self.manifests, id_: module}, self._modules, self._most_bytes)

    def fill(self, manifests: Mapping[str, Manifest]) -> set[str]:
        """Keep what is kept of these; the ids that are not."""
        new = [id_ for id_ in manifests if id_ not in self.manifests]
        if len(new) == 1 and len(manifests) == len(self.manifests) + 1 and self._is_roomy(manifests[new[0]]):
            self._put(new[0], manifests[new[0]])
            return set()
        found = view.kept(manifests, self._modules, self._most_bytes)
        self.manifests, self._bytes, self._versions = {}, 0, {}
        for id_ in manifests:
            if id_ in found:
                self._put(id_, manifests[id_])
        return set(manifests) - found

    def _is_roomy(self, module: Manifest) -> bool:
        """Whether there is so much room that nobody has to leave: the usual case, without sorting."""
        return (
            len(self.manifests) < self._modules
            and self._bytes + view.size(module) <= self._most_bytes
            and self._versions.get(module.task, 0) < MAX_VERSIONS
        )

    def _put(self, id_: str, module: Manifest) -> None:
        self.manifests[id_] = module
        self._bytes += view.size(module)
        self._versions[module.task] = self._versions.get(module.task, 0) + 1


class _Verdicts:
    """Which revocations are accepted under one trust list; each is verified once."""

    def __init__(self, trust: Trust, before: "_Verdicts | None") -> None:
        self._trust = trust
        self._found: dict[str, Revocation | Refused] = {}
        if before is not None and before._trust == trust:
            self._found = before._found

    def accepted(self, said: Mapping[str, bytes]) -> dict[str, Revocation]:
        """Those that are, of these envelopes by id."""
        self._found = {
            id_: self._found.get(id_) or accept_revocation(word, self._trust) for id_, word in said.items()
        }
        return {id_: word for id_, word in self._found.items() if not isinstance(word, Refused)}
