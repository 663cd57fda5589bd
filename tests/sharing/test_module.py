from dataclasses import replace

import pytest
import torch
from tests.sharing.samples import ADA, BACKBONE, BEN, LISTED, a_module, packed

from stolon.errors import ModuleRefusedError, TaskError
from stolon.sharing import lightweight, manifest, module, revocation
from stolon.sharing.codes import Code, Refused
from stolon.sharing.envelope import open_envelope, payload_id
from stolon.sharing.keys import Key
from stolon.sharing.limits import MAX_BLOB, MAX_ENVELOPE
from stolon.sharing.trust import Trust

DATA = packed()


def code(data, trust=LISTED, **options):
    with pytest.raises(ModuleRefusedError) as caught:
        module.unpack(data, trust, **options)
    return caught.value.code


@pytest.mark.parametrize("precision", ["compact", "half", "full"])
@pytest.mark.parametrize("kind", ["gmm", "mahalanobis", "mahalanobis-images"])
def test_what_was_packed_is_unpacked_bit_for_bit(kind, precision):
    made = a_module(kind=kind, precision=precision, biases=5)
    found = module.unpack(module.pack(made, ADA), LISTED, backbone=BACKBONE)
    assert found.tensors.keys() == {"anchor", "biases", "head"}
    mine, theirs = lightweight.knowledge(made).tensors(), lightweight.knowledge(found).tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert (found.author, found.task, found.classes) == (ADA.public, "leaves", made.classes)


def test_packing_is_a_function_of_knowledge_and_key():
    assert packed() == DATA
    assert packed(BEN) != DATA
    assert module.unpack(packed(BEN), LISTED).id != module.unpack(DATA, LISTED).id
    same = Key(bytes([2]) * 32)
    assert packed(same) == DATA


def test_the_id_is_the_hash_of_what_was_signed():
    envelope, _ = module.split(DATA)
    assert module.unpack(DATA, LISTED).id == payload_id(open_envelope(envelope).payload)


def test_a_file_is_its_envelope_and_its_blobs_in_order_and_nothing_else():
    envelope, blobs = module.split(DATA)
    assert module.join(envelope, blobs.values()) == DATA
    assert [file.sha256 for file in manifest.parse(open_envelope(envelope).payload).files] == list(blobs)
    assert code(module.join(envelope, reversed(blobs.values()))) == Code.MALFORMED
    assert code(module.join(envelope, [*blobs.values(), b"more"])) == Code.MALFORMED
    assert code(module.join(envelope, [*blobs.values(), *blobs.values()])) == Code.MALFORMED
    assert code(module.join(envelope, list(blobs.values())[:1])) == Code.MISSING_BLOB


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"stolon module 2\n" + DATA[16:],
        DATA[:16],
        DATA[:18],
        DATA[:30],
        DATA[:-1],
        DATA + b"\0",
        DATA + bytes(4),
        DATA[:16] + b"\xff\xff\xff\xff" + DATA[20:],
        DATA[:16] + bytes(4) + DATA[20:],
        module.join(b"{}", []),
        module.join(b"x" * (MAX_ENVELOPE + 1), []),
        module.join(b"{}", [b"x" * (MAX_BLOB + 1)]),
        module.join(b"{}", [bytes([i]) for i in range(manifest.MAX_FILES + 1)]),
    ],
)
def test_files_in_any_other_form_are_malformed(data):
    assert code(data) == Code.MALFORMED


def test_sizes_are_taken_at_their_limits():
    split = module.split(module.join(b"x" * MAX_ENVELOPE, [b"y" * MAX_BLOB]))
    assert not isinstance(split, Refused)
    assert code(DATA[:16] + bytes(module.MAX_FILE)) == Code.TOO_LARGE


def test_a_revocation_is_no_module_file():
    assert code(module.join(revocation.revoke(ADA, "0" * 64), [])) == Code.WRONG_TYPE


def test_refusals_come_as_errors_with_their_code():
    assert code(DATA, Trust.fresh(BEN.public)) == Code.UNKNOWN_AUTHOR
    assert code(DATA, backbone="c" * 64) == Code.OTHER_BACKBONE


def test_names_that_cannot_be_shared_say_what_to_rename():
    with pytest.raises(
        TaskError, match="the task name 'a/b' cannot be shared: '/' is not allowed; rename it"
    ):
        packed(task="a/b")
    with pytest.raises(TaskError, match="class name"):
        module.pack(replace(a_module(), classes=("a", "<b>", "c")), ADA)


def test_nothing_leaves_that_others_would_refuse():
    made = a_module()
    far = {**made.tensors["head"], "bias.scale": torch.tensor([1e9])}
    with pytest.raises(ModuleRefusedError, match="bad-knowledge"):
        module.pack(replace(made, tensors={**made.tensors, "head": far}), ADA)


def test_a_manifest_that_grows_too_large_says_so():
    many = a_module(classes=1000, width=1)
    long = replace(many, classes=tuple(f"{i:04}" + "日" * 60 for i in range(1000)))
    with pytest.raises(ModuleRefusedError, match="fewer classes, or shorter names"):
        module.pack(long, ADA)


def test_a_blob_that_grows_too_large_says_so():
    made = a_module()
    huge = {**made.tensors["head"], "more": torch.zeros(MAX_BLOB, dtype=torch.uint8)}
    with pytest.raises(TaskError, match="cannot be shared: head"):
        module.pack(replace(made, tensors={**made.tensors, "head": huge}), ADA)
