"""Keys: an agent's own Ed25519 key, and the public keys of others.

A public key is written as 64 lower-case hexadecimal characters everywhere; it is also the agent's name on
the wire. Signing is PyNaCl's (libsodium), which refuses keys of small order, where OpenSSL lets a signature
under the identity point pass for any text.
"""

import contextlib
import os
import re
import uuid
from pathlib import Path
from typing import Final, Self, final

import nacl.bindings
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from stolon import durable
from stolon.errors import KeyFileError, StoreFullError
from stolon.sharing.codes import Code, Refused

HEX: Final = re.compile(r"[0-9a-f]{64}")
"""The form of every key, digest and id."""

_SEED: Final = re.compile(rb"([0-9a-f]{64})\n?")


@final
class Key:
    """An agent's own key. Whoever has it signs as the agent, so it is neither printed nor copied.

    Example:
        >>> key = Key.generate()
        >>> verify_bytes(key.public, b"text", key.sign(b"text"))
        True
    """

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self.public: str = self._key.verify_key.encode().hex()
        """The public key, in hexadecimal."""

    @classmethod
    def generate(cls) -> Self:
        """A new key, from the operating system's randomness."""
        return cls(os.urandom(32))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            KeyFileError: there is none, it holds no key, or others may read it.
        """
        try:
            with path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode & 0o777
                data = file.read(100)
        except OSError as error:
            raise KeyFileError(
                f"cannot read the key {path}: {error.strerror or error}; put the agent's key back from a copy, or "
                "make a new store"
            ) from error
        if mode & 0o077:
            raise KeyFileError(
                f"the key {path} may be read or changed by others (mode {mode:04o}); expected 0600: chmod 600 {path}"
            )
        found = _SEED.fullmatch(data)
        if found is None:
            raise KeyFileError(
                f"{path} holds no key: expected 64 hexadecimal characters; put it back from a copy"
            )
        return cls(bytes.fromhex(found[1].decode()))

    def write(self, path: Path) -> None:
        """Put the key into a new file that only its owner may read, whole or not at all.

        Raises:
            KeyFileError: there is a file of that name already; it is left as it is.
            StoreFullError: the disk refused.
        """
        temporary = path.parent / f"{durable.TEMPORARY}{uuid.uuid4().hex}"
        try:
            durable.make_folder(path.parent)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(self._key.encode().hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it never replaces a key that is there
            durable.sync_folder(path.parent)
        except FileExistsError:
            raise KeyFileError(f"there is a key at {path} already; it is kept, use another folder") from None
        except OSError as error:
            raise StoreFullError(
                f"cannot write the key {path}: {error.strerror or error}; free space or check permissions"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def sign(self, data: bytes) -> bytes:
        """The signature of ``data``, 64 bytes; the same key and data always give the same."""
        return self._key.sign(data).signature

    def __repr__(self) -> str:
        return f"Key({fingerprint(self.public)})"


def check_public(public: object) -> Refused | None:
    """What is wrong with a public key, or None where nothing is.

    A key must be a point of the curve's large prime-order group in its canonical form, as every honestly made
    key is: under a point of small order one signature fits many texts.

    Example:
        >>> check_public("00" * 32).code
        <Code.WEAK_KEY: 'weak-key'>
    """
    if not isinstance(public, str) or HEX.fullmatch(public) is None:
        return Refused(
            Code.MALFORMED, f"a key has 64 lower-case hexadecimal characters, not {str(public)[:80]!r}"
        )
    if not nacl.bindings.crypto_core_ed25519_is_valid_point(bytes.fromhex(public)):
        return Refused(Code.WEAK_KEY, f"the key {public} is of small order, or not in canonical form")
    return None


def verify_bytes(public: str, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` is that of ``data`` by the owner of ``public``."""
    try:
        VerifyKey(bytes.fromhex(public)).verify(data, signature)
    except (BadSignatureError, ValueError):
        return False
    return True


def fingerprint(public: str) -> str:
    """The first 8 characters of a key, for people to tell their peers apart at a glance.

    They are no proof: somebody can search for a key that begins alike. Trust is given to whole keys.

    Example:
        >>> fingerprint("3f9a12bc" + "0" * 56)
        '3f9a-12bc'
    """
    return f"{public[:4]}-{public[4:8]}"
