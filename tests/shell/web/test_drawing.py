import base64
import math
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.shell.web.fakes import FakeAgent, confusion

from stolon.shell.web.drawing import Drawing, seen_as
from stolon.shell.web.facade import Answer, Confusion
from stolon.shell.web.limits import Limits

FILES = dict.fromkeys(["icon.svg", "page.css", "htmx.min.js", "page.js"], "1")


def drawn(agent: FakeAgent, name: str, **limits: int) -> str:
    return str(Drawing(agent, Limits(**limits), FILES).part(name).html)


def test_the_picture_that_is_shown_is_the_pixels_that_were_looked_at():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 9), dtype=np.uint8)
    data = base64.b64decode(seen_as(pixels).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(BytesIO(data))).transpose(2, 0, 1), pixels)


def test_shares_are_drawn_in_steps_and_none_of_them_as_nothing():
    agent = FakeAgent()
    agent.confused = Confusion(("a", "b"), ((0.96, 0.004, 0.036), (math.nan, math.nan, math.nan)))
    html = drawn(agent, "confusion")
    assert '<td class="right-10">96</td><td class="wrong-0"></td><td class="wrong-1">4</td>' in html
    assert '<td class="wrong-0"></td><td class="right-0"></td><td class="wrong-0"></td>' in html
    assert "96.0\xa0%" in html


def test_of_many_tasks_the_largest_confusions_are_listed():
    agent = FakeAgent()
    agent.confused = confusion([f"t{i}" for i in range(17)])
    html = drawn(agent, "confusion", matrix=16)
    assert '<table class="matrix">' not in html
    assert html.count("<tr><td>") == 20
    assert html.index("6.3") < html.index("4.2")
    assert '<table class="matrix">' in drawn(agent, "confusion", matrix=17)


def test_long_lists_of_strangers_are_cut():
    agent = FakeAgent()
    agent.strangers = agent.strangers * 1000
    html = drawn(agent, "offers")
    assert html.count("stolon trust add") == 20
    assert "and 980 more" in html


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.5, 2.0, math.nan])
def test_a_confidence_that_is_none_breaks_nothing(share):
    drawing = Drawing(FakeAgent(), Limits(), FILES)
    assert "<rect" in drawing.answer(Answer(True, "t", "c", share), "data:,")


def test_the_mark_of_a_part_is_that_of_its_content():
    agent = FakeAgent()
    drawing = Drawing(agent, Limits(), FILES)
    before = drawing.part("tasks")
    assert drawing.part("tasks") == before
    agent.learn(name="another")
    assert drawing.part("tasks").mark != before.mark
