import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import SettingError
from stolon.nets.plain import GROUPS
from stolon.transfer.configurations import (
    MAX_CONFIGURATIONS,
    Configuration,
    Space,
    adjacent,
    check_groups,
    parse,
    static_family,
)


def texts(space):
    return [str(c) for c in space.choices]


@pytest.mark.parametrize(
    ("text", "layers", "found"),
    [
        ("all", 4, "1111"), ("none", 4, "0000"), ("alternating", 4, "0101"), ("alternating", 5, "01010"),
        ("alternating", 1, "0"), ("top-1", 4, "0001"), ("top-3", 4, "0111"), ("top-4", 4, "1111"),
        ("bottom-2", 4, "1100"), ("bottom-4", 4, "1111"), ("2,4", 4, "0101"), ("4,1", 4, "1001"), ("3", 4, "0010"),
        ("10", 10, "0000000001"), ("all", 1, "1"),
    ],
)  # fmt: skip
def test_texts_name_the_layers_that_are_shared(text, layers, found):
    assert str(parse(text, layers)) == found
    assert parse(text, layers, 2) == Configuration.of(map(int, found), 2)


@pytest.mark.parametrize(
    ("text", "layers", "words"),
    [
        ("top-0", 4, "1 to 4 layers, found 0"), ("top-5", 4, "1 to 4 layers, found 5"), ("bottom-9", 4, "found 9"),
        ("0", 4, "layers from 1 to 4"), ("5", 4, "layers from 1 to 4"), ("2,2", 4, "distinct"), ("", 4, "one of all"),
        ("some", 4, "one of all"), ("Top-1", 4, "one of all"), ("top-", 4, "one of all"), ("-1", 4, "one of all"),
        ("1,", 4, "one of all"), ("1.5", 4, "one of all"), ("10|11", 3, "3 layers of 1 parts"),
        ("10|12", 2, "expected digits"), ("10|1", 2, "expected digits"), ("|", 2, "expected digits"),
    ],
)  # fmt: skip
def test_texts_that_name_none_are_refused(text, layers, words):
    with pytest.raises(SettingError, match=words):
        parse(text, layers)


def test_parts_are_written_digit_by_digit():
    assert parse("10|01|11", 3, 2).shared == ((True, False), (False, True), (True, True))
    with pytest.raises(SettingError, match="3 layers of 3 parts"):
        parse("10|01|11", 3, 3)


@given(st.integers(1, 6), st.integers(1, 4), st.data())
def test_the_text_of_a_configuration_gives_it_back(layers, parts, data):
    row = st.tuples(*[st.booleans()] * parts)
    found = Configuration(data.draw(st.tuples(*[row] * layers)))
    assert Configuration.from_text(str(found)) == found
    if parts > 1:
        assert parse(str(found), layers, parts) == found


@pytest.mark.parametrize("text", ["", "012", "a", "1|01", "||"])
def test_texts_that_no_configuration_has_are_refused(text):
    with pytest.raises(SettingError, match="expected digits"):
        Configuration.from_text(text)


def test_layers_are_those_that_share_all_their_parts():
    configuration = Configuration.from_text("11|10|00|11")
    assert configuration.layers == (1, 4)
    assert configuration.shares_anything
    assert Configuration.from_text("01|00").shares_anything
    assert not Configuration.from_text("00|00").shares_anything


def test_all_configurations_in_order_from_all_to_none():
    assert texts(Space.every(3)) == ["111", "011", "101", "001", "110", "010", "100", "000"]
    assert texts(Space.every(1)) == ["1", "0"]


@given(st.integers(1, 6))
def test_all_configurations_are_all_and_distinct(layers):
    space = Space.every(layers)
    assert len(space) == 2**layers == len(set(space.choices))
    assert set(texts(space)) == {"".join(digits) for digits in itertools.product("01", repeat=layers)}


@given(st.integers(1, 6), st.data())
def test_layers_of_a_group_adjacent_or_not_are_always_alike(layers, data):
    label = data.draw(st.lists(st.integers(0, 2), min_size=layers, max_size=layers))
    groups = [[i for i, g in enumerate(label, start=1) if g == which] for which in sorted(set(label))]
    space = Space.every(layers, groups=groups)
    assert len(space) == 2 ** len(groups) == len(set(space.choices))
    for choice in space.choices:
        for group in groups:
            assert len({choice.shared[layer - 1] for layer in group}) == 1


def test_parts_multiply_the_configurations_and_may_be_grouped():
    assert texts(Space.every(1, parts=2)) == ["11|", "10|", "01|", "00|"]
    space = Space.every(3, groups=[[1, 3], [2]], parts=2)
    assert len(space) == 16
    assert texts(space)[:4] == ["11|11|11", "10|11|10", "01|11|01", "00|11|00"]


@pytest.mark.parametrize(
    "groups", [[[1, 2]], [[1], [2], [2, 3]], [[1, 2, 3], []], [[0, 1, 2]], [[1, 2], [4]], []]
)
def test_groups_that_are_no_partition_are_refused(groups):
    with pytest.raises(SettingError, match="layers 1 to 3 in exactly one group"):
        Space.every(3, groups=groups)


@pytest.mark.parametrize("groups", [[1, 2, 3], "123", 3, [["a"], [1, 2, 3]]])
def test_groups_that_are_no_lists_of_numbers_are_refused(groups):
    with pytest.raises(SettingError, match="groups: expected"):
        check_groups(groups, 3)


def test_too_many_configurations_are_refused_with_the_remedy():
    assert len(Space.every(12)) == MAX_CONFIGURATIONS
    with pytest.raises(
        SettingError, match=r"at most 4096 configurations, found 2\^13; tie layers into groups"
    ):
        Space.every(13)
    with pytest.raises(SettingError, match=r"2\^14"):
        Space.every(7, parts=2)
    assert len(Space.every(13, groups=adjacent([4, 4, 5]))) == 8


def test_the_matrix_says_how_much_of_each_layer_is_shared():
    assert Space.every(2).matrix.tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    assert Space.every(1, parts=2).matrix.tolist() == [[1], [0.5], [0.5], [0]]


def test_the_position_of_a_configuration_and_of_none():
    space = Space.every(4, groups=[[1, 2], [3, 4]])
    assert [space.index(choice) for choice in space.choices] == [0, 1, 2, 3]
    with pytest.raises(SettingError, match="1000 is none of the 4"):
        space.index(parse("bottom-1", 4))


def test_the_papers_groups_of_convolutions_are_partitions():
    for net, by_count in GROUPS.items():
        for count, groups in by_count.items():
            assert check_groups(groups, 9) == groups, net
            assert len(groups) == count
            assert len(Space.every(9, groups=groups)) == 2**count
    assert adjacent([3, 3, 3]) == GROUPS["stl-conv9"][3]


def test_the_static_families_are_the_papers():
    family = [str(parse(text, 4)) for text in static_family(4)]
    # All; Top 1, 2, 3; Bottom 1, 2, 3; Alternating {2, 4}: the eight of Figure 1
    assert family == ["1111", "0001", "0011", "0111", "1000", "1100", "1110", "0101"]
    six = [str(parse(text, 6)) for text in static_family(6)]
    assert len(set(six)) == len(six) == 16
    assert six[11:] == ["010101", "101010", "001100", "110011", "011110"]
