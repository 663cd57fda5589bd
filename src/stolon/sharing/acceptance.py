"""Acceptance: from bytes to accepted, or refused with a code. Pure; whatever the bytes, nothing is raised.

One order, from cheap to dear, and nothing is parsed before its signature is verified::

    size -> envelope -> author listed, not revoked -> signature -> manifest -> backbone -> method's shapes
         -> revoked -> quota -> (blobs are fetched) -> all there -> SHA-256 -> the one form -> finite
         -> method's own check

:func:`judge` goes as far as one can without the blobs, :func:`accept` to the end. Storing comes after that,
and is somebody else's (:mod:`stolon.sharing.bank`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol, final

from torch import Tensor

from stolon.sharing import blobs as codec
from stolon.sharing import lightweight, manifest, revocation, supermasks
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import MODULE, REVOCATION, Envelope, open_envelope, payload_id, verify
from stolon.sharing.manifest import Manifest
from stolon.sharing.revocation import Revocation
from stolon.sharing.task_module import TaskModule
from stolon.sharing.trust import Trust


class Method(Protocol):
    """What a method checks of its modules."""

    def check_manifest(self, manifest: Manifest) -> Refused | None:
        """What is wrong with what a module says of itself, before any of its files is fetched."""
        ...

    def check(self, manifest: Manifest, tensors: Mapping[str, Mapping[str, Tensor]]) -> Refused | None:
        """What is wrong with its numbers."""
        ...


METHODS: Final[Mapping[str, Method]] = MappingProxyType(
    {
        lightweight.METHOD: lightweight,
        supermasks.SUPSUP: supermasks,
        supermasks.IMPRESSIONS: supermasks,
    }
)
"""What checks modules, by the name of their method."""


class Held(Protocol):
    """What acceptance asks of the set that something would be added to."""

    def is_revoked(self, id_: str, author: str) -> bool:
        """Whether the author took this module of theirs back."""
        ...

    def has_room(self, id_: str, module: Manifest) -> bool:
        """Whether the module would be kept beside what is held of its author."""
        ...

    def has_room_for_word(self, id_: str, word: Revocation) -> bool:
        """Whether the revocation would be kept beside its author's others."""
        ...


@final
class Nothing:
    """An empty set: nothing is revoked, and there is room for everything."""

    def is_revoked(self, id_: str, author: str) -> bool:  # noqa: ARG002 - the protocol's
        """Never."""
        return False

    def has_room(self, id_: str, module: Manifest) -> bool:  # noqa: ARG002 - the protocol's
        """Always."""
        return True

    def has_room_for_word(self, id_: str, word: Revocation) -> bool:  # noqa: ARG002 - the protocol's
        """Always."""
        return True


NOTHING: Final = Nothing()


@final
@dataclass(frozen=True)
class Wanted:
    """An envelope that is accepted as soon as its blobs are there.

    Attributes:
        id: of the module or revocation.
        blobs: digest and size of every blob to fetch; none for a revocation, or a module that its author
            revoked: of that, only the envelope is kept, so that all agents hold the same set.
        manifest: of a module.
        revocation: where it is one.
        is_revoked: the module's author took it back.
    """

    id: str
    blobs: tuple[tuple[str, int], ...] = ()
    manifest: Manifest | None = None
    revocation: Revocation | None = None
    is_revoked: bool = False


@final
@dataclass(frozen=True, eq=False)
class Accepted:
    """Everything was checked; what is left is to store it.

    Attributes:
        id: of the module or revocation.
        envelope: its bytes.
        blobs: by digest; exactly those that the manifest lists, or none.
        manifest: of a module.
        module: what it holds; None for a revocation and for a revoked module.
        revocation: where it is one.
    """

    id: str
    envelope: bytes
    blobs: Mapping[str, bytes]
    manifest: Manifest | None = None
    module: TaskModule | None = None
    revocation: Revocation | None = None


def judge(
    envelope: bytes, trust: Trust, *, backbone: str | None = None, held: Held = NOTHING
) -> Wanted | Refused:
    """Everything that can be checked before blobs are fetched.

    Args:
        envelope: of a module or a revocation.
        trust: whom to listen to, with roots' revocations applied (:func:`stolon.sharing.revocation.applied`).
        backbone: fingerprint of the only backbone to take; None takes any.
        held: the set that it would be added to.
    """
    opened = open_envelope(envelope)
    if isinstance(opened, Refused):
        return opened
    if opened.type == REVOCATION:
        return _judge_word(envelope, payload_id(opened.payload), trust, held)
    if opened.type != MODULE:
        return Refused(Code.WRONG_TYPE, f"expected a module or a revocation, found {opened.type}")
    refused = _unverified(opened, trust)
    if refused is not None:
        return refused
    return _judge_module(opened, trust, backbone, held)


def accept(
    envelope: bytes,
    blobs: Mapping[str, bytes],
    trust: Trust,
    *,
    backbone: str | None = None,
    held: Held = NOTHING,
) -> Accepted | Refused:
    """Everything.

    Args:
        envelope: of a module or a revocation.
        blobs: by digest; exactly those that the manifest lists.
        trust: as for :func:`judge`.
        backbone: as for :func:`judge`.
        held: as for :func:`judge`.
    """
    wanted = judge(envelope, trust, backbone=backbone, held=held)
    if isinstance(wanted, Refused):
        return wanted
    if wanted.manifest is None or wanted.is_revoked:
        return Accepted(wanted.id, envelope, {}, wanted.manifest, None, wanted.revocation)
    if blobs.keys() - dict(wanted.blobs).keys():
        return Refused(Code.MALFORMED, "a file came with it that it does not list, or that is damaged")
    module = assemble(wanted.id, wanted.manifest, blobs)
    if isinstance(module, Refused):
        return module
    return Accepted(wanted.id, envelope, dict(blobs), wanted.manifest, module)


def assemble(id_: str, found: Manifest, blobs: Mapping[str, bytes]) -> TaskModule | Refused:
    """The module that these blobs make, checked against a manifest that was accepted.

    Args:
        id_: of the module.
        found: its manifest.
        blobs: by digest.
    """
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for file in found.files:
        data = blobs.get(file.sha256)
        if data is None:
            return Refused(Code.MISSING_BLOB, f"the file {file.role} ({file.sha256[:12]}) is not there")
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            return Refused(Code.WRONG_HASH, f"the file {file.role} is not the one that was signed")
        read = codec.check(data, file.tensors)
        if isinstance(read, Refused):
            return Refused(read.code, f"the file {file.role}: {read.detail}")
        tensors[file.role] = read
    method = METHODS[found.method]
    refused = method.check_manifest(found) or method.check(found, tensors)
    if refused is not None:
        return refused
    return TaskModule(
        method=found.method,
        task=found.task,
        classes=found.classes,
        tensors=tensors,
        backbone_name=found.backbone_name,
        backbone=found.backbone,
        counts=found.counts,
        metrics=found.metrics,
        costs=found.costs,
        settings=found.settings,
        recipe=found.recipe,
        data=found.data,
        seq=found.seq,
        replaces=found.replaces,
        author=found.author,
        id=id_,
    )


def recognise(envelope: bytes) -> tuple[str, Manifest | None] | Refused:
    """The id and, of a module, the manifest of an envelope that was accepted once and lies on a disk.

    Checked as far as can be without a trust list: whoever signed it, the signatures must be right. The method's
    own checks are made when the module is used (:func:`assemble`).
    """
    opened = open_envelope(envelope)
    if isinstance(opened, Refused):
        return opened
    if not all(verify(opened, signer) for signer in opened.signers):
        return Refused(Code.BAD_SIGNATURE, "a signature is not that of the key it names")
    id_ = payload_id(opened.payload)
    if opened.type == REVOCATION:
        return id_, None
    if opened.type != MODULE:
        return Refused(Code.WRONG_TYPE, f"expected a module or a revocation, found {opened.type}")
    found = _signed_manifest(opened)
    return found if isinstance(found, Refused) else (id_, found)


def _unverified(opened: Envelope, trust: Trust) -> Refused | None:
    """A module has one signature, its author's: others would be bytes that nobody checks, passed on to all."""
    if len(opened.signatures) != 1:
        return Refused(
            Code.MALFORMED, f"expected one signature, its author's, found {len(opened.signatures)}"
        )
    keyid = opened.signers[0]
    if keyid in trust.revoked_keys:
        return Refused(Code.REVOKED_KEY, f"the key {keyid} was revoked")
    if trust.author(keyid) is None:
        return Refused(Code.UNKNOWN_AUTHOR, f"{keyid} is not on the trust list")
    if not verify(opened, keyid):
        return Refused(Code.BAD_SIGNATURE, f"the signature is not that of {keyid}")
    return None


def _judge_word(envelope: bytes, id_: str, trust: Trust, held: Held) -> Wanted | Refused:
    word = revocation.accept_revocation(envelope, trust)
    if isinstance(word, Refused):
        return word
    if not held.has_room_for_word(id_, word):
        return Refused(Code.OVER_QUOTA, f"no room is left for more revocations of {word.author[:12]}")
    return Wanted(id_, revocation=word)


def _judge_module(opened: Envelope, trust: Trust, backbone: str | None, held: Held) -> Wanted | Refused:
    found = _signed_manifest(opened)
    if isinstance(found, Refused):
        return found
    id_ = payload_id(opened.payload)
    refused = METHODS[found.method].check_manifest(found) or _unwelcome(id_, found, trust, backbone, held)
    if refused is not None:
        return refused
    if held.is_revoked(id_, found.author):
        return Wanted(id_, (), found, is_revoked=True)
    return Wanted(id_, tuple((file.sha256, file.bytes) for file in found.files), found)


def _signed_manifest(opened: Envelope) -> Manifest | Refused:
    """What the one verified signature is under."""
    found = manifest.parse(opened.payload)
    if isinstance(found, Refused):
        return found
    signer = opened.signers[0]
    if found.author != signer:
        return Refused(Code.AUTHOR_MISMATCH, f"it names {found.author} as its author; {signer} signed it")
    if found.method not in METHODS:
        return Refused(Code.UNSUPPORTED, f"this stolon knows no method {found.method!r}")
    return found


def _unwelcome(id_: str, found: Manifest, trust: Trust, backbone: str | None, held: Held) -> Refused | None:
    """Why a good module is not taken in all the same."""
    if backbone is not None and found.backbone != backbone:
        return Refused(
            Code.OTHER_BACKBONE,
            f"expected one learned on the backbone {backbone[:12]}, found {found.backbone[:12]} "
            f"({found.backbone_name})",
        )
    if id_ in trust.revoked_modules:
        return Refused(Code.REVOKED, f"the module {id_[:12]} was revoked")
    if not held.has_room(id_, found):
        return Refused(Code.OVER_QUOTA, f"no room is left for more of {found.author[:12]}")
    return None
