import base64
import itertools
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup
from tests.experiments.fakes import make_learner, make_stream

from stolon.errors import StoreDamagedError, StoreMissingError
from stolon.experiments import Experiment, LearnerSpec, Results, StreamSpec, TrialsFailedError, run
from stolon.experiments.drawing import PNG, Figure
from stolon.experiments.figures import curves, heat_map
from stolon.experiments.report import Section, Table, _md, _number, html, markdown, sections, write
from stolon.experiments.results import Record
from stolon.experiments.summary import COLUMNS, groups
from stolon.measure import interval

HOSTILE = "<script>alert(1)</script> $x_2$ |*_`\"'&鳥"


class Page(HTMLParser):
    """What a browser would make of it: elements, attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    learners = [
        LearnerSpec("fake", "x", label=f"infers {HOSTILE}", settings={"infers": True}),
        LearnerSpec("fake", "x", label="_plain"),
        LearnerSpec("fake", "x", label="bad", settings={"fails_on": f"{HOSTILE}-1"}),
    ]
    experiment = Experiment(f"toy {HOSTILE}", learners, [StreamSpec(HOSTILE)], seeds=[0, 1], workers=0)
    with pytest.raises(TrialsFailedError):
        list(
            run(
                experiment,
                folder,
                command="stolon run <x>",
                make_learner=make_learner,
                make_stream=make_stream,
            )
        )
    return folder / "results.jsonl"


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    return write(results, tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def page(written):
    return written[0].read_text()


def test_the_page_needs_no_other_file(page):
    for _, attributes in Page(page).elements:
        for name in ("src", "href", "action", "srcset", "poster"):
            assert not attributes.get(name) or attributes[name].startswith(("data:image/", "#"))
    assert not re.search(r"url\(|@import|<link|<script|<iframe", page)


def test_hostile_names_are_shown_and_never_run(page):
    parsed = Page(page)
    assert {tag for tag, _ in parsed.elements}.isdisjoint({"script", "b", "i"})
    assert HOSTILE in parsed.text
    assert not any(name.startswith("on") for _, attributes in parsed.elements for name in attributes)


def test_every_picture_is_well_formed_and_told_in_words(page):
    images = [attributes for tag, attributes in Page(page).elements if tag == "img"]
    assert len(images) == 2 + 3 + 2 + 2
    for image in images:
        assert len(image["alt"]) > 20
        svg = base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"))
        assert ET.fromstring(svg).tag.endswith("svg")
        assert b"<script" not in svg


def test_headings_do_not_skip_levels_and_anchors_lead_somewhere(page):
    elements = Page(page).elements
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = {attributes["id"] for _, attributes in elements if "id" in attributes}
    assert {a["href"][1:] for tag, a in elements if tag == "a"} <= ids


def test_the_page_says_where_it_comes_from_and_what_failed(page):
    text = Page(page).text
    assert "stolon run <x>" in text
    assert "seeds" in text
    assert "torch" in text
    assert "Trials that failed" in text
    assert "DataError" in text


def test_the_summary_is_the_mean_and_interval_over_seeds(results):
    records = Results(results).read()
    (group,) = [g for g in groups(records) if g.learner == "_plain"]
    finals = [np.mean(r.data["row"]) for r in records if r.kind == "task" and r.learner == "_plain"][2::3]
    (final,) = [column for column in COLUMNS if column.title == "final"]
    assert final.interval(group) == (pytest.approx(interval(finals)), 2)
    table = sections(records)[0].tables[0]
    row = next(row for row in table.rows if row[1] == "_plain")
    shown = row[list(table.columns).index("final [%]")]
    assert shown == f"{100 * np.mean(finals):.1f} ± {100 * interval(finals).half_width:.1f}"


def test_an_unfinished_trial_enters_no_mean_but_is_drawn(results):
    (group,) = [g for g in groups(Results(results).read()) if g.learner == "bad"]
    assert not group.finished
    assert all(column.interval(group) is None for column in COLUMNS)
    assert group.mean_matrix().shape == (1, 1)


def test_the_mean_confusion_is_made_of_shares(results):
    (group,) = [g for g in groups(Results(results).read()) if g.learner.startswith("infers")]
    confusion = group.mean_confusion()
    assert confusion.shape == (3, 4)
    assert np.allclose(confusion.sum(1), 1)


def test_the_same_results_give_the_same_report_byte_for_byte(results, written, tmp_path):
    for a, b in zip(written, write(results, tmp_path), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_the_markdown_shows_pictures_that_are_there(written):
    text = written[1].read_text()
    links = re.findall(r"\]\((report-figures/\d+\.svg)\)", text)
    assert len(links) == 9
    assert all((written[1].parent / link).is_file() for link in links)
    assert "<" not in text
    rows = [re.sub(r"\\\|", "", line) for line in text.splitlines() if line.startswith("| ") and "±" in line]
    assert len({row.count("|") for row in rows}) == 1


def test_others_can_add_sections(results, tmp_path):
    pixel = Figure(b"\x89PNG...", "one pixel <b>", "caption <b>", PNG)
    extra = Section(
        f"Extra {HOSTILE}",
        "First <b>.\n\nSecond.",
        [Table(("a",), [("<td>",)])],
        [pixel],
        html=Markup("<em>trusted</em>"),
        markdown="**as it is**",
        sections=[Section("Inner", html="<em>not trusted</em>")],
    )
    page, text = write(results, tmp_path, extra=[extra], title="T <b>")
    parsed = Page(page.read_text())
    assert "data:image/png;base64," in page.read_text()
    assert [tag for tag, _ in parsed.elements].count("em") == 1
    assert "b" not in {tag for tag, _ in parsed.elements}
    assert "First <b>." in parsed.text
    assert "<em>not trusted</em>" in parsed.text
    assert "**as it is**" in text.read_text()
    assert (tmp_path / "report-figures" / "003.png").exists() or (
        tmp_path / "report-figures" / "001.png"
    ).exists()


def test_results_without_trials_make_a_report_all_the_same(tmp_path):
    results = Results(tmp_path / "results.jsonl")
    results.append(Record("experiment", "empty", data={"recipe": {}}))
    page, _ = write(results.path)
    assert "No trial has begun." in Page(page.read_text()).text


def test_without_results_there_is_no_report(tmp_path):
    with pytest.raises(StoreMissingError):
        write(tmp_path / "none.jsonl")


def test_records_that_lack_something_are_refused(tmp_path):
    with pytest.raises(StoreDamagedError, match="lacks"):
        sections([Record("task", "e", "l", "s", 0, {"index": 0})])


@pytest.mark.parametrize("tasks", [1, 2, 13, 60])
def test_pictures_of_any_number_of_tasks_are_drawn(tasks):
    names = [f"task {'x' * 30} {i}" for i in range(tasks)]
    values = np.tril(np.full((tasks, tasks), 0.5))
    values[np.triu_indices(tasks, 1)] = np.nan
    words = {"title": "t", "row_title": "r", "column_title": "c", "alt": "a"}
    assert ET.fromstring(heat_map(values, names, names, **words).data) is not None
    lines = {name: [(i + 1.0, 0.5, float("nan")) for i in range(tasks)] for name in names}
    assert (
        ET.fromstring(curves(lines, title="t", x_title="x", y_title="y", alt="a", ticks=names).data)
        is not None
    )


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        ((0.5, 0.01), "%", "50.0 ± 1.0"),
        ((0.5, float("nan")), "%", "50.0"),
        ((1.5e9, 1e6), "MAC", "1.50 ± 0.00 GMAC"),
        ((813_800, float("nan")), "B", "813.80 kB"),
        ((12, 0.0), "B", "12 B"),
        ((0, 0.0), "MAC", "0 MAC"),
        ((0.98, 0.01), "ratio", "0.980 ± 0.010"),
        ((61.25, 1), "s", "61.2 ± 1.0 s"),
    ],
)
def test_numbers_are_told_in_readable_units(value, unit, shown):
    assert _number(*value, unit) == shown


@given(st.text())
def test_markdown_takes_any_text_as_text(text):
    escaped = _md(text)
    assert "<" not in escaped
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*`]", escaped)


@given(st.text(max_size=50), st.text(max_size=50))
def test_any_title_and_text_make_a_page(title, text):
    parsed = Page(html(title, [Section(title, text)]))
    ours = "html head meta title style body main h1 h2 nav a section p"
    assert {tag for tag, _ in parsed.elements} <= set(ours.split())
    markdown(title, [Section(title, text)])
