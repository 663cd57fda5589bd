import xml.etree.ElementTree as ET

from tests.experiments.lasem.records import trial

from stolon.experiments.bindings import growths, routes, section
from stolon.experiments.network_picture import network
from stolon.experiments.report import html, sections
from stolon.experiments.summary import groups
from stolon.growth.explanation import Growth

THREE = [([0.5], 0.6), ([0.4, 0.7], 0.7), ([0.4, 0.6, 0.8], 0.8)]
UNITS = ("1", "2", "3")


def said(task, bound, grown, *, parameters=(10, 20, 4_000_000), **others):
    candidates = [f"t{i}" for i in range(int(task[1:]))]
    return Growth(
        task,
        bound,
        "least-conflict",
        0.5,
        UNITS,
        grown,
        conflicts=dict.fromkeys(candidates, (0.1, 0.2, 0.3)),
        scores=dict.fromkeys(candidates, 0.374),
        distribution=(1 / 6, 1 / 3, 1 / 2),
        inputs=12,
        source="validation",
        parameters=parameters,
        independent_accuracy=0.75,
        **others,
    ).to_json()


def group_of(*notes):
    epochs = [(0, "train", 0.5, {}), *((int(note["task"][1:]), "train", 0.5, note) for note in notes)]
    (found,) = groups(trial("bind-and-grow", 3, THREE, epochs=epochs))
    return found


BOUND = (said("t1", "t0", ("3",)), said("t2", "t1", ("2",)))


def test_routes_follow_from_what_was_decided():
    (outcome,) = group_of(*BOUND).outcomes
    found = growths(outcome)
    assert list(found) == ["t0", "t1", "t2"]
    assert routes(found) == {"t0": ("t0",) * 3, "t1": ("t0", "t0", "t1"), "t2": ("t0", "t2", "t1")}


def test_the_report_draws_the_joint_network_and_says_why():
    group = group_of(*BOUND)
    part = section(group)
    decisions, conflicts = part.tables
    assert [row[1:4] for row in decisions.rows] == [
        ("–", "–", "1, 2, 3"),
        ("t0", "0.374", "3"),
        ("t1", "0.374", "2"),
    ]
    assert [row[:2] for row in conflicts.rows] == [("t1", "t0 (bound)"), ("t2", "t0"), ("t2", "t1 (bound)")]
    assert conflicts.rows[0][3:] == ("0.100", "0.200", "0.300")
    assert "layer 1 0 %, layer 2 50 %, layer 3 50 %" in part.text
    (figure,) = part.figures
    told = " ".join(ET.fromstring(figure.data).itertext())
    for word in ("4 M", "t0", "t2", "the joint network"):
        assert word in told
    assert "t0 3, t1 1, t2 1" in figure.alt
    page = html("r", sections([record for record in _records() if record]))
    assert "the joint network" in page


def _records():
    epochs = [(int(note["task"][1:]), "train", 0.5, note) for note in BOUND]
    return trial("bind-and-grow", 3, THREE, epochs=epochs)


def test_a_method_that_grows_nothing_has_no_such_part():
    (group,) = groups(trial("finetune", 0, THREE, epochs=[(0, "train", 0.5, {"configuration": "11"})]))
    assert section(group) is None


def test_without_sizes_there_is_no_picture_and_without_comparisons_no_scores():
    blind = {**said("t1", "t0", (), parameters=()), "conflicts": {}, "scores": {}, "delta": None}
    part = section(group_of(blind))
    assert part.figures == []
    (decisions,) = part.tables
    assert decisions.rows[1][1:5] == ("t0", "–", "none", "–")


def test_more_tasks_than_colours_are_drawn_too():
    made = {f"task {i}": (f"task {i}", "task 0") for i in range(12)}
    figure = network(made, ("1", "2"), (5, 2_500_000_000), title="t", alt="what", caption="c")
    told = " ".join(ET.fromstring(figure.data).itertext())
    assert "2.5 G" in told
    assert (figure.alt, figure.caption) == ("what", "c")
    again = network(made, ("1", "2"), (5, 2_500_000_000), title="t", alt="what", caption="c")
    assert figure.data == again.data
