import json
import math
import re
from dataclasses import replace

import markupsafe
import pytest
from tests.experiments.impress.making import plan
from tests.experiments.impress.records import made

from stolon import measure
from stolon.experiments.by_seed import percent
from stolon.experiments.impress import paper
from stolon.experiments.impress.measured import Measured
from stolon.experiments.impress.plans import FIGURES, Wanted, plans
from stolon.experiments.impress.report import Run, keep, publish, sections
from stolon.experiments.impress.telling import Telling


def run_of(figure="impress-figure2", leave_out=lambda unit, item: False, **changes):
    wanted = plan(figure, **changes)
    return Run(wanted, (1258, 359), made(wanted, leave_out))


def tables(run):
    return [table for part in run.figure().sections for table in part.tables]


def lines(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_becomes_a_page(figure, tmp_path):
    run = run_of(figure)
    text = publish([run], tmp_path, "stolon reproduce <b>").read_text()
    for words in (run.plan.spec.title, "How it was run", "Where this comes from", "torch 2"):
        assert str(markupsafe.escape(words)) in text
    assert "stolon reproduce &lt;b&gt;" in text
    assert "not there yet" not in text
    assert "<img" in text
    assert (tmp_path / "report.md").is_file()


def test_numbers_of_the_table_are_means_and_intervals_over_runs():
    run = run_of()
    line = lines(tables(run)[0])["3^"]
    each = {r: 0.4 + 0.06 + 0.012 * r + 0.00065 for r in (0, 1)}
    for density in (0.2, 0.4):
        mean, half = measure.interval(value + 0.1 * density for value in each.values())
        assert line[f"density {density:g}"] == f"{100 * mean:.1f} ± {100 * half:.1f}"
    mean, half = measure.interval(value + 0.03 for value in each.values())
    assert line["all densities"] == f"{100 * mean:.1f} ± {100 * half:.1f}"
    # 0.9 against 0.46: the same run by run, so that there is no interval
    assert line["− SupSup [points]"] == "-44.0 ± 0.0"
    assert line["paper"] == "–"


def test_lines_come_in_the_order_of_the_paper():
    assert [row[0] for row in tables(run_of())[0].rows] == ["X", "1", "3", "1^", "3^", "SupSup"]
    assert [row[0] for row in tables(run_of("impress-figure7"))[0].rows] == [
        "X", "1r", "3r", "1^", "3^", "SupSup",
    ]  # fmt: skip
    assert [row[0] for row in tables(run_of("impress-figure10"))[0].rows] == [
        "X", "1", "1h", "3", "3h", "1^", "1h^", "3^", "3h^", "SupSup",
    ]  # fmt: skip


def test_storage_of_a_new_task_is_counted():
    line = lines(tables(run_of("impress-figure10"))[0])
    assert (line["3"]["coefficients"], line["3"]["bytes"]) == ("6", "12")
    assert (line["3h"]["coefficients"], line["3h"]["bytes"]) == ("6", f"{12 + 120 // 8}")
    assert line["SupSup"]["bytes"] == f"{768 // 8 + 120 // 8} (coded 70 to 90)"
    assert line["X"]["bytes"] == "–"


def test_the_papers_numbers_stand_where_its_text_has_them():
    for changes, wrong in (({"paper": paper.ROTATED}, "10 ± 3"), ({"paper": paper.CIFAR}, "20 ± 2")):
        assert lines(tables(run_of(**changes))[0])["X"]["paper"] == wrong
    assert lines(tables(run_of())[0])["X"]["paper"] == "–"
    figure = run_of("impress-figure3", paper=paper.PERMUTED).figure()
    assert "94.6 % in 3 epochs, 98.1 % in 5 epochs" in figure.sections[-1].text
    assert "94.6" not in run_of().figure().sections[-1].text


def test_words_say_when_supsup_is_reached():
    text = run_of().figure().sections[0].text
    assert "Heterogeneous bases stay 34.0 points below SupSup's mean (3 masks)." in text
    near = run_of(sizes=(1, 20), different=20)
    assert (
        "Heterogeneous bases come within a point of SupSup's mean with 20 masks."
        in near.figure().sections[0].text
    )


def test_figure_6_has_four_ways_for_each_size():
    (part,) = run_of("impress-figure6").figure().sections
    assert [row[0] for row in part.tables[0].rows] == [
        "1 basis-GN", "1 GG", "1 GN, a batch", "1 GN, a sample",
        "3 basis-GN", "3 GG", "3 GN, a batch", "3 GN, a sample",
    ]  # fmt: skip
    assert "basis-GN" in part.figures[0].alt
    found = Measured(plan("impress-figure6"), made(plan("impress-figure6")))
    column = found.basis("gn-alone", "", "", "found", among=True)[1]
    assert lines(part.tables[1])["3"]["a sample [%]"] == percent(found.pooled(column))


def test_the_coefficients_on_a_tasks_own_mask_are_told():
    part = run_of().figure().sections[1]
    assert part.tables[1].rows[0] == ("1", "25.0 ± 0.0", "50.0 ± 0.0")


def test_what_is_missing_is_told_and_left_out(tmp_path):
    run = run_of(leave_out=lambda unit, item: unit.kind == "supsup" or item.size == 3)
    figure = run.figure()
    assert re.search(r"\d+ of \d+ results are not there yet", figure.text)
    line = lines(figure.sections[0].tables[0])
    assert line["3"]["all densities"] == line["SupSup"]["all densities"] == "–"
    assert line["1"]["− SupSup [points]"] == "–"
    publish([run], tmp_path)
    nothing = Run(run.plan, (1, 1), [])
    assert not any(part.figures for part in nothing.figure().sections)
    sections(nothing)


def test_how_it_was_run_stands_beside_the_paper():
    (full,) = plans(Wanted("impress-figure4", "full"))
    (told,) = [part for part in sections(Run(full, (450, 150), [])) if part.title == "How it was run"]
    rows = {row[0]: row[1:] for row in told.tables[0].rows}
    assert rows["coefficients"] == (
        "adam 0.02 (cosine), batches of 64, 150 epochs, weight decay 0.01",
        "Adam 0.02, batches of 64, epochs not printed, weight decay 0.1",
    )
    assert rows["runs"] == ("9, on 3 backbones in turn", "3 backbones, 3 seeds each")
    assert rows["kept weights"][0] == "as they are"
    assert rows["heterogeneous ones"][0] == "5, 10, 15"
    assert "share a backbone" in told.text
    assert "smaller" not in told.text.partition("Smaller bases")[0]
    (quick,) = plans(Wanted("impress-figure4", streams=("imagenet-split",)))
    (told,) = [part for part in sections(Run(quick, (450, 150), [])) if part.title == "How it was run"]
    assert "The network is smaller than the paper's ResNet-50." in told.text
    scaled = replace(quick, setting=replace(quick.setting, scaled=True))
    (told,) = [part for part in sections(Run(scaled, (450, 150), [])) if part.title == "How it was run"]
    rows = {row[0]: row[1:] for row in told.tables[0].rows}
    assert rows["kept weights"][0] == "divided by the root of their share"
    assert "nothing on these data" in sections(run_of())[1].text


def test_statistics_of_normalisation_are_counted_apart():
    run = run_of()
    records = [
        replace(record, data={**record.data, "statistics_bytes": 9_600}) if record.kind == "trial" else record
        for record in run.records
    ]
    assert "9,600 bytes of normalisation's statistics" in sections(replace(run, records=records))[1].text
    assert "bytes of normalisation" not in sections(run)[1].text


def test_streams_share_a_page(tmp_path):
    text = publish([run_of(), run_of()], tmp_path).read_text()
    assert text.count("Figure 2: impressions") == 2


def test_what_is_kept_has_every_result(tmp_path):
    run = run_of("impress-figure6")
    keep([run], tmp_path / "kept.json", "a command")
    value = json.loads((tmp_path / "kept.json").read_text())
    kept = value["runs"]["digits-rotated"]
    assert value["command"] == "a command"
    assert kept["done"] == [len(kept["results"])] * 2
    assert kept["recipe"] == run.plan.recipe()
    label, number, what, size, task, among, accuracy, *found = kept["results"][0]
    assert (label, number, what, size, task, among) == ("heterogeneous 0.2", 0, "gg", 0, 0, 0)
    assert found == [None, None]
    *_, accuracy, found, each = next(row for row in kept["results"] if row[2] == "gn-alone")
    assert math.isclose(accuracy, 2 * found)
    assert math.isclose(accuracy, 4 * each)


def test_groups_of_results_are_told_when_they_are_whole():
    wanted = plan(runs=1)
    telling = Telling(wanted)
    told = [line for record in made(wanted) if (line := telling.line(record))]
    assert "digits-rotated 0, heterogeneous 0.2: 3 masks, new tasks: 58.1%" in told
    assert "digits-rotated 0, supsup 0.4: new tasks found, a sample among 2: 47.0%" in told
    groups = {
        (unit, item.what, item.size, item.among)
        for unit in wanted.units()
        for item in wanted.items(unit.kind)
    }
    assert len(told) == len(groups)
