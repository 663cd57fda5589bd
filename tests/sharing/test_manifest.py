import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import TaskError
from stolon.sharing import blobs, manifest, strict_json
from stolon.sharing.codes import Code, Refused
from stolon.sharing.limits import MAX_CLASSES, MAX_MANIFEST, MAX_NAME
from stolon.sharing.manifest import File, Manifest, check_name, parse

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "datasets"
HEAD = {"weight": ("F32", (2, 4)), "bias": ("F32", (2,))}
ANCHOR = {"means": ("F16", (3, 4))}
GOOD = Manifest(
    method="lightweight",
    author="a" * 64,
    task="leaves of trees",
    classes=("oak", "Färberdistel"),
    backbone_name="timm:mobilenetv2_100?pad_type=same",
    backbone="b" * 64,
    files=(
        File("anchor", "c" * 64, blobs.size(ANCHOR), ANCHOR),
        File("head", "d" * 64, blobs.size(HEAD), HEAD),
    ),
    counts=(10, 20),
    metrics={"test_accuracy": 0.75},
    costs={"seconds": 3.0},
    settings={"precision": "compact"},
    recipe="e" * 64,
    data="f" * 64,
    seq=2,
    replaces=("1" * 64, "2" * 64),
)


def document():
    return json.loads(GOOD.to_payload())


def written(**fields):
    return strict_json.dumps({**document(), **fields})


def test_what_was_written_is_read():
    assert parse(GOOD.to_payload()) == GOOD
    assert GOOD.total_bytes == blobs.size(HEAD) + blobs.size(ANCHOR)


def test_what_need_not_be_told_may_be_left_empty():
    bare = replace(GOOD, counts=(), metrics={}, costs={}, settings={}, recipe="", data="", seq=1, replaces=())
    assert parse(bare.to_payload()) == bare


def test_whatever_is_accepted_is_written_back_byte_for_byte():
    for numbers in (0.0, -0.0, 1e300, 5e-324, 0.1, 1 / 3):
        payload = written(metrics={"x": numbers})
        assert parse(payload).to_payload() == payload


def test_a_manifest_that_is_too_large_is_refused():
    room = MAX_MANIFEST - len(written(settings={"x": ""}))
    assert isinstance(parse(written(settings={"x": "y" * room})), Manifest)
    assert parse(written(settings={"x": "y" * (room + 1)})).code == Code.TOO_LARGE


def test_a_later_schema_is_refused_as_unsupported():
    for schema in (0, 2, "1", None, True, 1.0, [1]):
        assert parse(written(schema=schema)).code == Code.UNSUPPORTED, schema
    assert parse(b'{"a":1}').code == Code.UNSUPPORTED


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        GOOD.to_payload()[:-1],
        GOOD.to_payload() + b" ",
        b" " + GOOD.to_payload(),
        GOOD.to_payload().replace(b'"seq":2', b'"seq":2,"seq":2'),
        GOOD.to_payload().replace(b'"seq":2', b'"seq": 2'),
        GOOD.to_payload().replace(b"0.75", b"0.750"),
        GOOD.to_payload().replace(b"0.75", b"NaN"),
        GOOD.to_payload().replace(b"0.75", b"1e999"),
        GOOD.to_payload().replace(b"oak", b"\\u006fak"),
    ],
)
def test_what_is_no_canonical_json_is_refused(payload):
    assert parse(payload).code in {Code.BAD_MANIFEST, Code.UNSUPPORTED}


@pytest.mark.parametrize("missing", sorted(document()))
def test_every_field_must_be_there_and_no_other(missing):
    fields = document()
    del fields[missing]
    assert isinstance(parse(strict_json.dumps(fields)), Refused)
    assert parse(written(**{missing + "x": 1})).code == Code.BAD_MANIFEST


FILE = document()["files"][1]
WRONG = {
    "method": ["", "Light", "x" * 65, 1, None],
    "author": ["", "A" * 64, "a" * 63, "g" * 64, 5],
    "task": ["", " leaves", "leaves ", "a" * 65, "<b>", "a\u202eb", "a\nb", "e\u0301", "\u0301e", 3, None],
    "classes": [[], "oak", ["oak", "oak"], ["oak", 3], ["oak", ""], ["c" * 65], {}, None],
    "backbone": [
        [],
        {},
        {"name": "x"},
        {"name": "", "fingerprint": "b" * 64},
        {"name": "x", "fingerprint": "b"},
        {"name": "x\n", "fingerprint": "b" * 64},
        {"name": "x" * 257, "fingerprint": "b" * 64},
    ],
    "counts": [[1], [1, 2, 3], [1, -1], [1, 2.0], [True, 2], [1, 2**53 + 1], {}],
    "metrics": [[], {"x": 1}, {"x": "1"}, {"X": 1.0}, {"x": True}, {f"x{i}": 1.0 for i in range(33)}],
    "costs": [None, {"x": None}],
    "settings": [[], None, "x"],
    "recipe": ["x", "E" * 64, None],
    "data": ["x", 0],
    "seq": [0, -1, 1.0, True, "1", 2**53 + 1],
    "replaces": [
        ["2" * 64, "1" * 64],
        ["1" * 64, "1" * 64],
        ["x"],
        [f"{i:064x}" for i in range(17)],
        "1" * 64,
    ],
    "files": [
        [],
        {},
        [document()["files"][1], document()["files"][0]],
        [FILE, FILE],
        [{**FILE, "role": f"r{i}", "sha256": f"{i:064x}"} for i in range(5)],
        [{**FILE, "role": "a"}, {**FILE, "role": "b"}],
        [{**FILE, "role": "He ad"}],
        [{**FILE, "sha256": "D" * 64}],
        [{**FILE, "bytes": FILE["bytes"] + 1}],
        [{**FILE, "bytes": True}],
        [{**FILE, "x": 1}],
        [{**FILE, "tensors": {}}],
        [{**FILE, "tensors": []}],
        [{**FILE, "tensors": {"weight": ["F32", [-1, 4]]}}],
        [{**FILE, "tensors": {"weight": ["F32", [2**62, 0]]}}],
        [{**FILE, "tensors": {"weight": ["F32", [True, 4]]}}],
        [{**FILE, "tensors": {"weight": ["F32", [1.0]]}}],
        [{**FILE, "tensors": {"weight": ["F32", [1] * 5]}}],
        [{**FILE, "tensors": {"weight": ["F32"]}}],
        [{**FILE, "tensors": {"weight": "F32"}}],
        [{**FILE, "tensors": {"weight": [7, [1]]}}],
        [{**FILE, "tensors": {"weight": ["F64", [1]]}}],
        [{**FILE, "tensors": {"../weight": ["F32", [1]]}}],
        [{**FILE, "tensors": {f"t{i}": ["U8", [1]] for i in range(65)}}],
    ],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_a_field_out_of_its_form_or_range_is_refused(field, value):
    assert parse(written(**{field: value})).code == Code.BAD_MANIFEST


def test_lists_are_accepted_at_their_limits():
    names = tuple(f"c{i}" for i in range(MAX_CLASSES))
    assert isinstance(parse(replace(GOOD, classes=names, counts=()).to_payload()), Manifest)
    more = replace(GOOD, classes=(*names, "one more"), counts=())
    assert parse(more.to_payload()).code == Code.BAD_MANIFEST
    full = replace(
        GOOD,
        metrics={f"x{i}": 1.0 for i in range(manifest.MAX_FIGURES)},
        replaces=tuple(f"{i:064x}" for i in range(manifest.MAX_REPLACES)),
        files=tuple(File(f"r{i}", f"{i:064x}", blobs.size(HEAD), HEAD) for i in range(manifest.MAX_FILES)),
        seq=manifest.MAX_COUNT,
        task="t" * MAX_NAME,
    )
    assert parse(full.to_payload()) == full


def test_settings_may_not_be_nested_deeper_than_the_rest():
    def nested(levels):
        return {} if levels == 0 else {"x": nested(levels - 1)}

    assert isinstance(parse(written(settings=nested(manifest.DEPTH - 2))), Manifest)
    assert parse(written(settings=nested(manifest.DEPTH - 1))).code == Code.BAD_MANIFEST


@given(st.binary(max_size=200))
def test_no_bytes_raise(data):
    assert isinstance(parse(data), Refused)


@given(
    st.dictionaries(
        st.sampled_from(sorted(document())),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
        ),
    )
)
def test_no_values_raise(fields):
    try:
        payload = written(**fields)
    except ValueError:
        return  # half a surrogate pair cannot be written at all
    read = parse(payload)
    assert isinstance(read, Refused) or read.to_payload() == payload


# Names


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "potato leaf",
        "O'Brien's #1 (new), R&D + more.",
        "日本語",
        "ไทย",
        "हिन्दी",
        "Ελλάδα",
        "٣",
        "x" * 64,
        "a_b-c",
    ],
)
def test_names_of_every_script_pass(name):
    check_name("class", unicodedata.normalize("NFC", name))


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "0 characters"),
        ("x" * 65, "65 characters"),
        ("a<b", "'<' is not allowed"),
        ("a/b", "'/' is not allowed"),
        ("a\tb", "is not allowed"),
        ("a\u202eb", "is not allowed"),
        ("a\u200bb", "is not allowed"),
        ("a\u00a0b", "is not allowed"),
        ("😀", "is not allowed"),
        ("½", "is not allowed"),
        (" a", "begins or ends badly"),
        ("a ", "begins or ends badly"),
        ("\u0301a", "begins or ends badly"),
        ("e\u0301", "not composed"),
        ("\ud800", "is not allowed"),
    ],
)
def test_names_that_could_not_be_shown_safely_say_what_to_rename(name, word):
    with pytest.raises(TaskError, match=word) as caught:
        check_name("class", name)
    assert "rename it" in str(caught.value)


@pytest.mark.real_data
@pytest.mark.skipif(not DATA.is_dir(), reason="shared/data is not here")
def test_the_names_of_the_real_data_sets_pass():
    found = {path.name for path in DATA.iterdir() if path.is_dir()}
    found |= {path.name for path in DATA.glob("*/*/*") if path.is_dir()}
    assert len(found) > 300
    for name in found:
        check_name("class", name)
