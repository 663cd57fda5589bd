import xml.etree.ElementTree as ET

import numpy as np

from stolon.experiments.box_plots import boxes
from stolon.experiments.figures import bars, dots, timeline

NAN = float("nan")


def texts(figure):
    return " ".join(ET.fromstring(figure.data).itertext())


def test_dots_name_every_line_and_every_series():
    series = {"HPS": {"All": (0.25, 0.01), "Top $2$": (0.4, NAN)}, "_DF": {"All": (0.36, 0.02)}}
    figure = dots(series, title="a title", x_title="accuracy", alt="what", boxes={"All": (0.2, 0.4)})
    told = texts(figure)
    for word in ("a title", "All", "Top $2$", "HPS", "_DF", "%"):
        assert word in told
    assert figure.alt == "what"
    assert "%" not in texts(dots({"": {"a": (1.0, 0.1)}}, title="t", x_title="x", alt="", percent=False))


def test_bars_tell_their_percentages():
    told = texts(bars({"0101": 0.375, "1111": 0.0}, title="t", x_title="x", alt=""))
    assert "0101" in told
    assert "38 %" in told
    assert "0 %" in told


def test_a_long_timeline_stays_small():
    long = timeline(
        np.random.default_rng(0).random((4, 20_000)),
        list("abcd"),
        [10_000, 20_000],
        title="t",
        x_title="x",
        alt="",
    )
    assert len(long.data) < 100_000
    assert "own" in texts(long)
    short = timeline(np.zeros((1, 1)), ["a"], [1], title="t", x_title="x", alt="")
    assert "shared" in texts(short)


def test_the_same_picture_has_the_same_bytes():
    one, other = (timeline(np.eye(3), list("abc"), [3], title="t", x_title="x", alt="") for _ in range(2))
    assert one.data == other.data


def test_boxes_name_every_box_every_series_and_the_line():
    series = {"GG": {"5": [0.9, 0.95], "X": [0.1]}, "_GN $m$": {"5": [0.5, 0.6, 0.7]}}
    figure = boxes(series, title="t", x_title="masks", y_title="accuracy", alt="what", line=("SupSup", 0.97))
    told = texts(figure)
    for word in ("5", "X", "GG", "_GN $m$", "SupSup", "masks", "accuracy", "%"):
        assert word in told
    assert figure.alt == "what"
    alone = boxes({"a": {"5": [0.9]}}, title="t", x_title="x", y_title="y", alt="")
    assert "SupSup" not in texts(alone)
    again = boxes(series, title="t", x_title="masks", y_title="accuracy", alt="what", line=("SupSup", 0.97))
    assert figure.data == again.data


def test_a_box_shows_every_value_and_its_median():
    def circles(values):
        data = boxes({"a": {"5": values}}, title="t", x_title="x", y_title="y", alt="").data
        return data.decode().count("<use ")

    assert circles([0.1, 0.2, 0.3, 0.9]) - circles([0.1, 0.9]) == 2
