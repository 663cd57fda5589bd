"""Solutions of two objectives: average gain, to be high, and parameters, to be few."""

from collections.abc import Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """One solution.

    Attributes:
        gain: higher is better.
        parameters: fewer are better.
    """

    gain: float
    parameters: float


def dominates(one: Point, other: Point) -> bool:
    """Whether the first is at least as good in both and better in one.

    Example:
        >>> dominates(Point(0.2, 10), Point(0.1, 10)), dominates(Point(0.2, 10), Point(0.2, 10))
        (True, False)
    """
    return one.gain >= other.gain and one.parameters <= other.parameters and one != other


def front(points: Sequence[Point]) -> list[int]:
    """The places of the points that none dominates, by ascending parameters; of equal ones the first.

    Example:
        >>> front([Point(0.3, 30), Point(0.1, 10), Point(0.1, 20), Point(0.3, 30)])
        [1, 0]
    """
    found: list[int] = []
    best = float("-inf")
    for place in sorted(range(len(points)), key=lambda i: (points[i].parameters, -points[i].gain, i)):
        if points[place].gain > best:
            found.append(place)
            best = points[place].gain
    return found


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The area that is dominated by some point and dominates the reference: how good a set of solutions is.

    Args:
        points: the set; those that are not better than the reference in both add nothing.
        reference: the worst that counts: a low gain with many parameters, the same for all sets that are compared.

    Returns:
        In gain times parameters; divide both by what they are measured against to compare between streams.

    Example:
        >>> hypervolume([Point(0.5, 10), Point(1.0, 20)], Point(0.0, 40))
        25.0

    Source:
        Zitzler and Thiele, PPSN 1998; in two dimensions a sum of rectangles, so that no library is needed.
    """
    area, right = 0.0, reference.parameters
    for place in reversed(front(points)):
        gain, parameters = points[place]
        if parameters < right and gain > reference.gain:
            area += (gain - reference.gain) * (right - parameters)
            right = parameters
    return area
