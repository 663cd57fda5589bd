import json

import pytest

from stolon.experiments import Results
from stolon.experiments import run as run_experiment
from stolon.experiments.lasem.methods import Wanted
from stolon.experiments.lasem.paper import CIFAR
from stolon.experiments.lasem.plans import open_stream, plans
from stolon.experiments.lasem.report import Data, Run, keep, publish, sections


def wanted(table="lasem-table3", **options):
    asked = {
        "streams": ("digits-mixed",),
        "tasks": 1,
        "epochs": 1,
        "seeds": 1,
        "transfers": ("hard",),
        "workers": 0,
    }
    return Wanted(table, **{**asked, **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    (plan,) = plans(wanted())
    folder = tmp_path_factory.mktemp("run")
    list(run_experiment(plan.experiment, folder))
    return Run(plan, Data.of(open_stream(plan)), Results(folder / "results.jsonl").read())


def test_a_run_becomes_a_page_with_table_settings_and_choices(run, tmp_path):
    page = publish([run], tmp_path, "stolon reproduce <b>")
    text = page.read_text()
    for words in ("Table 3: brute force", "How it was run", "LASEM HPS: which layers are shared"):
        assert words in text
    assert "brute force HPS: which layers are shared" in text
    assert "stolon reproduce &lt;b&gt;" in text
    assert "3 of 3 trials done" in text
    assert (tmp_path / "report.md").is_file()


def test_the_best_candidate_of_brute_force_is_the_one_that_is_kept(run):
    choices = next(part for part in sections(run) if part.title == "What was chosen").sections
    brute = next(part for part in choices if part.title.startswith("brute force"))
    best = {}
    for record in run.records:
        if record.kind == "epoch" and record.learner == "brute force HPS":
            task, phase, val = (record.data[key] for key in ("task", "phase", "val_accuracy"))
            if val > best.get(task, ("", -1.0))[1]:
                best[task] = (phase.removeprefix("train "), val)
    assert [(row[0], row[2]) for row in brute.tables[0].rows] == [
        (task, found[0]) for task, found in best.items()
    ]


def test_streams_share_a_page(run, tmp_path):
    text = publish([run, run], tmp_path).read_text()
    assert text.count("Table 3: brute force") == 2


def test_what_differs_from_the_paper_is_told():
    (plan,) = plans(Wanted("lasem-figure4", seeds=2))
    like_paper = Data(10, (170, 30, 1000), 10, (3, 32, 32))
    told = next(part for part in sections(Run(plan, like_paper, [])) if part.title == "How it was run")
    assert (
        "protocol: epochs for each task, learning rate, its decay d in rate / (1 + d epochs), runs."
        in told.text
    )
    rows = {row[0]: row[1:] for row in told.tables[0].rows}
    assert rows["epochs for each task"] == ("24", "2000")
    assert rows["training, validation, test images of the first task"] == ("170, 30, 1000",) * 2
    assert rows["network"] == (CIFAR.net, CIFAR.net)
    (plan,) = plans(Wanted("lasem-figure4", scale="full"))
    told = next(part for part in sections(Run(plan, like_paper, [])) if part.title == "How it was run")
    assert "The protocol is the paper's." in told.text
    subset = Data(10, (170, 30, 300), 10, (3, 32, 32))
    told = next(part for part in sections(Run(plan, subset, [])) if part.title == "How it was run")
    assert "protocol: training, validation, test images of the first task." in told.text


def test_variants_are_named_with_their_settings():
    (plan,) = plans(wanted(variants=("default", "released")))
    told = next(
        part for part in sections(Run(plan, Data(2, (1, 1, 1), 5, (1, 8, 8)), [])) if "How" in part.title
    )
    assert "default (no setting changed); released (exact = True, likelihood = mean-probability" in told.text
    (plan,) = plans(wanted("lasem-figure1"))
    told = next(
        part for part in sections(Run(plan, Data(2, (1, 1, 1), 5, (1, 8, 8)), [])) if "How" in part.title
    )
    assert "LASEM ran" not in told.text


def test_what_is_kept_has_tables_tasks_and_choices(run, tmp_path):
    path = tmp_path / "kept.json"
    keep([run], path, "a command")
    value = json.loads(path.read_text())
    kept = value["runs"]["digits-mixed"]
    assert value["command"] == "a command"
    assert len(kept["done"]) == 3
    assert len(kept["tasks"]) == 3
    assert set(kept["choices"]) == {"LASEM HPS", "brute force HPS"}
    assert set(kept["choices"]["LASEM HPS"]["0"]) == {"digits-lower"}
    assert kept["experiment"]["streams"][0]["name"] == "digits-mixed"
