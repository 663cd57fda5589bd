import os
import stat
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from stolon import durable
from stolon.errors import KeyFileError, StoreFullError
from stolon.sharing import keys
from stolon.sharing.codes import Code
from stolon.sharing.keys import Key, check_public, fingerprint, verify_bytes

ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
IDENTITY = (1).to_bytes(32, "little").hex()
WEAK = {
    "identity": IDENTITY,
    "order 2": (P - 1).to_bytes(32, "little").hex(),
    "order 4": "00" * 32,
    "order 4, other sign": (2**255).to_bytes(32, "little").hex(),
    "order 8": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, other": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "identity, not canonical": (P + 1).to_bytes(32, "little").hex(),
    "order 4, not canonical": P.to_bytes(32, "little").hex(),
    "identity, wrong sign": (2**255 + 1).to_bytes(32, "little").hex(),
    "no point": (2).to_bytes(32, "little").hex(),
}


@pytest.fixture
def key():
    return Key(b"\x07" * 32)


def test_signatures_are_those_of_the_standard():
    """RFC 8032, section 7.1, test 3."""
    key = Key(bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))
    assert key.public == "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    assert key.sign(b"\xaf\x82").hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


def test_another_library_signs_and_verifies_alike(key):
    theirs = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    assert theirs.sign(b"text") == key.sign(b"text")
    theirs.public_key().verify(key.sign(b"text"), b"text")
    with pytest.raises(InvalidSignature):
        theirs.public_key().verify(key.sign(b"text"), b"other")


def test_a_signature_is_of_one_key_and_one_text(key):
    signature = key.sign(b"text")
    assert verify_bytes(key.public, b"text", signature)
    assert not verify_bytes(key.public, b"texT", signature)
    assert not verify_bytes(Key.generate().public, b"text", signature)


@pytest.mark.parametrize("public", ["", "00", "zz" * 32, "00" * 33])
def test_what_is_no_key_verifies_nothing(key, public):
    assert not verify_bytes(public, b"text", key.sign(b"text"))


@pytest.mark.parametrize("length", [0, 63, 65, 128])
def test_a_signature_has_64_bytes(key, length):
    assert not verify_bytes(key.public, b"text", (key.sign(b"text") * 2)[:length])


def test_a_signature_has_one_form(key):
    """S and S + L satisfy the same equation; only the smaller is a signature."""
    signature = key.sign(b"text")
    scalar = int.from_bytes(signature[32:], "little") + ORDER
    assert not verify_bytes(key.public, b"text", signature[:32] + scalar.to_bytes(32, "little"))


def test_nothing_is_signed_by_the_identity_whatever_other_libraries_say():
    forged = bytes.fromhex(IDENTITY) + b"\0" * 32  # 0 B = 1 + h 1, whatever the text
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(IDENTITY)).verify(
        forged, b"any text"
    )  # OpenSSL takes it
    assert not verify_bytes(IDENTITY, b"any text", forged)


def test_two_new_keys_differ():
    assert Key.generate().public != Key.generate().public


@pytest.mark.parametrize("public", WEAK.values(), ids=WEAK)
def test_weak_keys_are_refused(public):
    refused = check_public(public)
    assert refused is not None
    assert refused.code is Code.WEAK_KEY
    assert public in refused.detail


def test_a_key_with_a_part_of_small_order_is_refused(key):
    from nacl.bindings import crypto_core_ed25519_add

    mixed = crypto_core_ed25519_add(bytes.fromhex(key.public), bytes.fromhex(WEAK["order 8"]))
    assert check_public(mixed.hex()).code is Code.WEAK_KEY


@pytest.mark.parametrize(
    "public", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64, None, 5, b"0" * 64, "a" * 63 + "\n"]
)
def test_what_is_not_written_as_a_key_is_refused(public):
    refused = check_public(public)
    assert refused is not None
    assert refused.code is Code.MALFORMED
    assert "64 lower-case hexadecimal characters" in refused.detail


def test_good_keys_are_not(key):
    assert check_public(key.public) is None
    assert all(check_public(Key.generate().public) is None for _ in range(20))


def test_a_key_comes_back_from_its_file(key, tmp_path):
    key.write(tmp_path / "new folder" / "key")
    assert Key.read(tmp_path / "new folder" / "key").public == key.public
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["key"]


def test_nobody_else_can_read_the_file_whatever_the_umask(key, tmp_path):
    before = os.umask(0)
    try:
        key.write(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_a_key_that_is_there_is_never_replaced(key, tmp_path):
    key.write(tmp_path / "key")
    with pytest.raises(KeyFileError, match=r"there is a key at .* already; it is kept"):
        Key.generate().write(tmp_path / "key")
    assert Key.read(tmp_path / "key").public == key.public
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("call", ["fsync", "link", "open"])
def test_a_refusal_of_the_disk_leaves_nothing_behind(key, tmp_path, monkeypatch, call):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys.os, call, refuse)
    with pytest.raises(StoreFullError, match=r"cannot write the key .*No space left.*; free space"):
        key.write(tmp_path / "key")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_the_key_is_durable_before_it_is_said_to_be_written(key, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(keys.os, "fsync", lambda _: done.append("bytes"))
    monkeypatch.setattr(durable, "sync_folder", done.append)
    link = os.link
    monkeypatch.setattr(keys.os, "link", lambda *paths: (done.append("link"), link(*paths)))
    key.write(tmp_path / "key")
    assert done == ["bytes", "link", tmp_path]


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"00", b"0" * 63, b"0" * 65, b"G" * 64, b"0" * 64 + b"\n\n", b"0" * 200]
)
def test_a_file_that_holds_no_key_is_refused(tmp_path, data):
    path = tmp_path / "key"
    path.write_bytes(data)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="holds no key: expected 64 hexadecimal characters"):
        Key.read(path)


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o610])
def test_a_key_that_others_may_read_is_refused(key, tmp_path, mode):
    path = tmp_path / "key"
    key.write(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"mode {mode:04o}.*chmod 600 {path}"):
        Key.read(path)


@pytest.mark.parametrize("missing", [True, False])
def test_a_key_that_cannot_be_read_is_named(tmp_path, missing):
    path = tmp_path / "key"
    if not missing:
        path.mkdir()
    with pytest.raises(KeyFileError, match=f"cannot read the key {path}.*put the agent's key back"):
        Key.read(path)


def test_the_secret_is_not_printed(key):
    assert repr(key) == str(key) == f"Key({fingerprint(key.public)})"
    assert (b"\x07" * 32).hex() not in repr(vars(key))


def test_fingerprints_are_short_and_begin_the_key(key):
    assert fingerprint(key.public) == f"{key.public[:4]}-{key.public[4:8]}"


def test_keys_are_read_where_they_were_written_by_hand_without_a_line_end(tmp_path):
    path = Path(tmp_path / "key")
    path.write_text("07" * 32)
    path.chmod(0o600)
    assert Key.read(path).public == Key(b"\x07" * 32).public
