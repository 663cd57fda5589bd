import hypothesis.strategies as st
import pytest
from hypothesis import given

from stolon.growth.pareto import Point, dominates, front, hypervolume

POINTS = st.lists(st.builds(Point, st.integers(-2, 6), st.integers(0, 9)), max_size=8)
REFERENCE = Point(-1, 8)


def naive_hypervolume(points, reference):
    """Unit cells between the reference and the points, counted one by one."""
    return sum(
        any(p.gain >= gain + 1 and p.parameters <= parameters for p in points)
        for gain in range(reference.gain, 7)
        for parameters in range(reference.parameters)
    )


@given(POINTS)
def test_hypervolume_is_the_count_of_dominated_cells(points):
    assert hypervolume(points, REFERENCE) == naive_hypervolume(points, REFERENCE)


@given(POINTS, st.randoms())
def test_the_order_of_points_does_not_matter(points, random):
    shuffled = random.sample(points, len(points))
    assert hypervolume(shuffled, REFERENCE) == hypervolume(points, REFERENCE)
    assert {shuffled[i] for i in front(shuffled)} == {points[i] for i in front(points)}


@given(POINTS, st.builds(Point, st.integers(-2, 6), st.integers(0, 9)))
def test_one_more_point_never_takes_away(points, another):
    assert hypervolume([*points, another], REFERENCE) >= hypervolume(points, REFERENCE)


@given(POINTS)
def test_the_front_is_what_no_point_dominates(points):
    found = [points[i] for i in front(points)]
    expected = {p for p in points if not any(dominates(q, p) for q in points)}
    assert set(found) == expected
    assert len(found) == len(expected)
    assert found == sorted(found, key=lambda p: p.parameters)


def test_nothing_covers_nothing():
    assert hypervolume([], REFERENCE) == 0
    assert front([]) == []
    assert hypervolume([Point(0.5, 2.5)], Point(0.0, 10.0)) == pytest.approx(3.75)
