"""The tables' arithmetic against records made by hand."""

import pytest
from tests.experiments.lasem.records import two_tasks

from stolon.experiments.lasem.measured import Measured
from stolon.experiments.lasem.methods import Wanted
from stolon.experiments.lasem.plans import plans
from stolon.experiments.lasem.tables import NOT_BUILT, table


def made(wanted, accuracies, **options):
    """The section of a table whose methods gave these: label -> (accuracy, kept, seconds), the same for three seeds
    but for half a point."""
    (plan,) = plans(wanted)
    records = [
        record
        for label, (accuracy, kept, seconds) in accuracies.items()
        for seed in range(3)
        for record in two_tasks(
            label, seed, [accuracy + 0.005 * (seed - 1)] * 2, kept, seconds=seconds, **options
        )
    ]
    assert {label for label, _ in accuracies.items()} <= {method.label for method in plan.methods}
    return table(Measured(plan, records))


def rows(shown):
    return {row[0]: dict(zip(shown.columns[1:], row[1:], strict=True)) for row in shown.rows}


def test_table_3_compares_with_lasem_and_with_the_paper():
    section = made(
        Wanted("lasem-table3", transfers=("hard",)),
        {"LASEM HPS": (0.40, 0.9, 10.0), "brute force HPS": (0.41, 0.8, 120.0), "HPS All": (0.25, 0.5, 8.0)},
    )
    (shown,) = section.tables
    told = rows(shown)
    assert told["LASEM HPS"]["accuracy [%]"] == "40.0 ± 1.2"
    assert told["brute force HPS"]["− LASEM [points]"] == "+1.0 ± 0.0"
    assert told["brute force HPS"]["time (LASEM = 1)"] == "12.00 ± 0.00"
    assert told["HPS All"]["kept (end)"] == "0.50 ± 0.00"
    assert [told[label]["paper: accuracy [%]"] for label in told] == [
        "39.3 ± 0.1",
        "40.4 ± 0.3",
        "24.7 ± 0.6",
    ]
    assert [told[label]["paper: time"] for label in told] == ["1", "6.55", "0.78"]
    assert "LASEM HPS beats HPS All: the intervals do not overlap." in section.text
    assert "all 16 configurations" in section.text


def test_figure_4_tells_the_range_and_the_best_in_hindsight():
    section = made(
        Wanted("lasem-figure4", transfers=("deconvolution",)),
        {
            "LASEM DF-CNN": (0.42, 0.98, 10.0),
            "DF-CNN All": (0.36, 0.5, 5.0),
            "DF-CNN Top 2": (0.43, 0.9, 6.0),
            "DF-CNN Bottom 2": (0.30, 0.7, 6.0),
        },
    )
    peaks, kept = map(rows, section.tables)
    line = peaks["LASEM DF-CNN"]
    assert (line["static [%]"], line["best static [%]"]) == ("30.0 to 43.0", "Top 2 43.0 ± 1.2")
    assert (line["− All"], line["− best static"]) == ("+6.0 ± 0.0", "-1.0 ± 0.0")
    assert (line["paper: LASEM"], line["paper: All"]) == ("42.0 ± 0.6", "36.3 ± 1.3")
    assert list(kept) == ["DF-CNN All", "DF-CNN Top 2", "LASEM DF-CNN"]
    assert kept["DF-CNN All"]["time (LASEM = 1)"] == "0.50 ± 0.00"
    assert kept["DF-CNN Top 2"]["kept (peak)"] == "0.90 ± 0.00"
    assert len(section.figures) == 2
    assert "All DF-CNN 36.0 %" in section.figures[0].alt


def test_figure_4_of_all_three_seeds_alike_does_not_name_all_twice():
    section = made(Wanted("lasem-figure4", transfers=("hard",)), {"HPS All": (0.9, 1.0, 1.0)})
    assert [row[0] for row in section.tables[1].rows] == ["HPS All", "LASEM HPS"]


def test_figure_1_marks_the_best_configuration_of_each_mechanism():
    section = made(
        Wanted("lasem-figure1"),
        {"HPS All": (0.25, 0.5, 1.0), "HPS Bottom 1": (0.40, 1.0, 1.0), "DF-CNN All": (0.36, 0.6, 1.0)},
    )
    (shown,) = section.tables
    line = dict(zip(shown.columns, next(row for row in shown.rows if row[0] == "Bottom 1"), strict=False))
    assert line["HPS [%]"] == "40.0 ± 1.2 (best)"
    assert line["DF-CNN [%]"] == "–"
    assert "HPS: 25.0 to 40.0 %, best in hindsight Bottom 1." in section.text
    assert "CIFAR-100: HPS 24.7 ± 0.6 %, DF-CNN 36.3 ± 1.3 %" in section.text
    assert len(shown.rows) == 8


def test_table_1_tells_what_is_not_built_with_the_papers_numbers():
    section = made(
        Wanted("lasem-table1", streams=("pacs-office-home",)),
        {"LASEM HPS": (0.6, 0.8, 10.0), "DARTS HPS": (0.5, 0.7, 7.0)},
    )
    told = rows(section.tables[0])
    for name in NOT_BUILT:
        assert told[name]["accuracy [%]"] == "not built yet"
        assert told[name]["paper: accuracy [%]"].startswith(("48.00", "59.58", "60.03"))
    assert told["ProgNN"]["paper: kept"] == "1.00 ± 0.00"
    assert told["DARTS HPS"]["time (LASEM = 1)"] == "0.70 ± 0.00"
    assert told["DARTS HPS"]["paper: time"] == f"{43.8 / 70.2:.2f}"
    assert told["DARTS HPS"]["seconds"] == "7 ± 0"
    assert "those of Office-Home" in section.text


@pytest.mark.parametrize(("tasks", "accuracy"), [(10, "39.47 ± 0.30"), (40, "39.89 ± 0.73")])
def test_table_2_is_relative_to_all_and_tells_how_time_grows(tasks, accuracy):
    section = made(
        Wanted("lasem-table2", scale="half", tasks=tasks),
        {"HPS All": (0.38, 0.5, 10.0), "LASEM HPS 4G": (0.39, 0.7, 15.0), "LASEM HPS 7G": (0.4, 0.7, 18.0)},
    )
    told = rows(section.tables[0])
    assert told["LASEM HPS 4G"]["time (All = 1)"] == "1.50 ± 0.00"
    assert told["LASEM HPS 4G"]["paper: accuracy [%]"] == accuracy
    assert told["HPS All"]["paper: time"] == "1.00"
    assert told["LASEM HPS 7G"]["paper: time"] == ("10.49" if tasks == 10 else "–")
    assert "From 4 to 7 groups time grows 1.20 ± 0.00 times." in section.text


@pytest.mark.parametrize(
    ("stream", "transfer", "accuracy"),
    [
        ("cifar100-lasem", "deconvolution", "–"),
        ("cifar10-stl", "hard", "–"),
        ("cifar10-stl", "deconvolution", "45.4 ± 0.4"),
    ],
)
def test_table_2_prints_the_papers_numbers_of_the_papers_mechanism_alone(stream, transfer, accuracy):
    section = made(Wanted("lasem-table2", scale="half", streams=(stream,), transfers=(transfer,)), {})
    first = section.tables[0].rows[0]
    assert first[section.tables[0].columns.index("paper: accuracy [%]")] == accuracy


def test_figure_6_compares_every_probability_with_lasem():
    section = made(
        Wanted("lasem-figure6", streams=("digits-mixed",)),
        {"LASEM DF-CNN": (0.5, 0.9, 10.0), "DF-CNN Top 2, P = 1": (0.52, 0.9, 5.0)},
    )
    told = rows(section.tables[0])
    assert told["DF-CNN Top 2, P = 1"]["− LASEM [points]"] == "+2.0 ± 0.0"
    assert told["DF-CNN Top 2, P = 0.5"]["accuracy [%]"] == "–"
    assert len(section.figures) == 1


@pytest.mark.parametrize(
    ("better", "words"), [(0.9, "beats"), (0.1, "loses to"), (0.5, "the intervals overlap")]
)
def test_the_verdict_follows_the_intervals(better, words):
    section = made(Wanted("lasem-table3"), {"LASEM HPS": (better, 1.0, 1.0), "HPS All": (0.5, 1.0, 1.0)})
    assert words in section.text


def test_without_results_there_are_dashes_and_no_pictures():
    for name in ("figure1", "figure4", "figure6", "table1", "table2", "table3"):
        section = made(Wanted(f"lasem-{name}"), {})
        assert not section.figures
        assert all("–" in row for shown in section.tables for row in shown.rows)
