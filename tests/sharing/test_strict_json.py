import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.sharing import strict_json
from stolon.sharing.strict_json import JsonError, dumps, loads

MOST = 10_000
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=20,
)


def depth_of(value):
    """The definition, on the finished value."""
    if isinstance(value, dict):
        return 1 + max((depth_of(one) for one in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth_of(one) for one in value), default=0)
    return 0


@given(VALUES)
def test_what_was_written_is_read_and_is_canonical(value):
    data = dumps(value)
    assert loads(data, most=len(data), depth=depth_of(value), canonical=True) == value


@given(VALUES)
def test_nesting_is_counted_as_it_is_and_one_less_is_refused(value):
    data, depth = dumps(value), depth_of(value)
    if depth > 0:
        with pytest.raises(JsonError, match=f"deeper than {depth - 1}"):
            loads(data, most=len(data), depth=depth - 1)


@given(st.binary() | TEXTS.map(str.encode))
def test_any_bytes_are_read_as_python_does_or_refused_by_one_error(data):
    try:
        value = loads(data, most=MOST, depth=5)
    except JsonError:
        return
    assert value == json.loads(data)


@given(st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_there_is_one_canonical_text_for_a_value(data):
    try:
        value = loads(data, most=MOST, depth=20, canonical=True)
    except JsonError:
        return
    assert dumps(value) == data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a":1,"a":1}', "the key 'a' comes twice"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "the key 'a' comes twice"),
        (b"NaN", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"1e999", "the number 1e999 is too large"),
        (b"9223372036854775808", "does not fit 64 bits"),
        (b"-9223372036854775808", "does not fit 64 bits"),
        (b"1" * 9000, "does not fit 64 bits"),
        (b'"\xff"', "expected UTF-8"),
        (b'"\xed\xa0\x80"', "expected UTF-8"),  # a surrogate written in UTF-8's way
        ('"a"'.encode("utf-16"), "expected UTF-8"),
        (b'\xef\xbb\xbf"a"', "not JSON"),  # a byte order mark
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\udc00":1}', "half of a surrogate pair"),
        (b"", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"1 2", "not JSON"),
        (b"'a'", "not JSON"),
        (b'"a\nb"', "not JSON"),
        (b"]" * 10, "not JSON"),
    ],
)
def test_what_two_readers_could_take_for_two_things_is_refused(data, words):
    with pytest.raises(JsonError, match=words):
        loads(data, most=MOST, depth=5)


def test_the_largest_integers_are_taken():
    assert loads(b"[9223372036854775807,-9223372036854775807]", most=MOST, depth=1) == [2**63 - 1, 1 - 2**63]


def test_escaped_pairs_are_text_though_not_canonical():
    assert loads(b'"\\ud83c\\udf53"', most=MOST, depth=0) == "🍓"
    with pytest.raises(JsonError, match="canonical"):
        loads(b'"\\ud83c\\udf53"', most=MOST, depth=0, canonical=True)


@pytest.mark.parametrize("data", [b'{"b":1,"a":1}', b'{"a": 1}', b"1.50", b"1E5", b"-0", b'"\\/"', b"[]\n"])
def test_other_ways_of_writing_the_same_are_not_canonical(data):
    loads(data, most=MOST, depth=1)
    with pytest.raises(JsonError, match="canonical"):
        loads(data, most=MOST, depth=1, canonical=True)


def test_the_size_is_checked_at_the_limit():
    assert loads(b"[1,2]", most=5, depth=1) == [1, 2]
    with pytest.raises(JsonError, match="at most 5 bytes, found 6"):
        loads(b"[1,2 ]", most=5, depth=1)


def test_brackets_in_texts_do_not_nest():
    assert loads(rb'["[[[[", "\\[\"[[{{"]', most=MOST, depth=1) == ["[[[[", '\\["[[{{']


@pytest.mark.parametrize("unit", [b'\\"', b'"', b'"[', b"[", b"\\", b"{", b'"\\u0061'])
def test_no_text_takes_more_time_than_its_size_allows(unit):
    data = b'"' + unit * (2_000_000 // len(unit))
    begun = time.perf_counter()
    with pytest.raises(JsonError):
        loads(data, most=len(data), depth=10)
    assert time.perf_counter() - begun < 5  # it takes about 0.2 s; backtracking would take hours


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_others_could_not_read_is_not_written(value):
    with pytest.raises(ValueError, match=r"Out of range|surrogates"):
        dumps([value])


def test_the_shapes_of_values_are_checked():
    assert strict_json.fields({"a": 1, "b": 2}, "b", "a") == {"a": 1, "b": 2}
    assert strict_json.text("abc") == "abc"
    assert strict_json.texts(["a", "b"]) == ("a", "b")
    assert strict_json.whole(3, 3, 3) == 3


@pytest.mark.parametrize("value", [[], {"a": 1}, {"a": 1, "b": 2, "c": 3}, None])
def test_an_object_has_exactly_its_fields(value):
    with pytest.raises(JsonError, match="an object of exactly a, b"):
        strict_json.fields(value, "a", "b")


@pytest.mark.parametrize("value", [1, None, ["a"]])
def test_a_text_is_a_text(value):
    with pytest.raises(JsonError, match="expected a text, found"):
        strict_json.text(value)


@pytest.mark.parametrize("value", ["a", {"a": 1}, None])
def test_a_list_is_a_list(value):
    with pytest.raises(JsonError, match="expected a list of texts"):
        strict_json.texts(value)


@pytest.mark.parametrize("value", [True, 1.0, "1", 0, 4, None])
def test_an_integer_is_one_within_its_bounds(value):
    with pytest.raises(JsonError, match="an integer from 1 to 3"):
        strict_json.whole(value, 1, 3)


def test_a_form_must_fit_the_whole_text():
    from stolon.sharing.keys import HEX

    assert strict_json.text("ab" * 32, HEX) == "ab" * 32
    for wrong in ("ab" * 32 + "\n", "AB" * 32, "ab" * 31):
        with pytest.raises(JsonError, match="of the form"):
            strict_json.texts([wrong], HEX)
