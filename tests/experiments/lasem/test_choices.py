import numpy as np
import pytest
from tests.experiments.lasem.records import trial

from stolon.experiments.lasem.choices import choices, marginals, section, shared_words
from stolon.experiments.report import html, sections
from stolon.experiments.summary import groups

TWO = [([0.5], 0.6), ([0.4, 0.7], 0.7)]


def outcome(epochs, **options):
    (group,) = groups(trial("LASEM HPS", 0, TWO, epochs=epochs, **options))
    return group, group.outcomes[0]


def lasem(task, configuration, **posterior):
    return (
        task,
        "train",
        0.5,
        {"configuration": configuration, "posterior": {k[1:]: v for k, v in posterior.items()}},
    )


EPOCHS = [
    lasem(0, "11", c11=0.5, c10=0.25, c01=0.25),
    lasem(0, "10", c10=0.8, c11=0.2),
    lasem(1, "01", c01=0.9, c00=0.1),
]


def test_a_marginal_is_the_posterior_of_all_configurations_that_share_the_layer():
    assert marginals(
        {"configuration": "11", "posterior": {"11": 0.5, "10": 0.2, "01": 0.1}}
    ) == pytest.approx(
        (0.7 / 0.8, 0.6 / 0.8)  # what is not told is left out on both sides
    )
    assert marginals({"configuration": "10", "shared": [0.8, 0.4]}) == (0.8, 0.4)
    assert marginals({"configuration": "01"}) == (0.0, 1.0)
    assert marginals({"configuration": "10|11", "posterior": {"10|11": 1.0}}) == (0.5, 1.0)


def test_the_choice_is_the_last_epochs_with_its_posterior():
    _, found = outcome(EPOCHS)
    first, second = choices(found)
    assert (first.task, first.configuration, first.words, first.probability) == ("t0", "10", "1", 0.8)
    assert first.layers == pytest.approx((1.0, 0.2))
    np.testing.assert_allclose(first.moved, [(0.75, 0.75), (1.0, 0.2)])
    assert (second.configuration, second.probability) == ("01", 0.9)


def test_a_task_that_is_not_learned_yet_is_left_out():
    (group,) = groups(trial("LASEM HPS", 0, TWO[:1], epochs=EPOCHS, done=False))
    assert [choice.task for choice in choices(group.outcomes[0])] == ["t0"]


def test_brute_force_chose_the_first_of_the_best_on_validation_data():
    def candidate(configuration, val):
        return (0, f"train {configuration}", val, {"configuration": configuration})

    _, found = outcome(
        [candidate("11", 0.5), candidate("11", 0.7), candidate("10", 0.7), candidate("00", 0.6)]
    )
    (choice,) = choices(found)
    assert (choice.configuration, choice.layers, choice.probability, choice.moved) == (
        "11",
        (1.0, 1.0),
        None,
        (),
    )


def test_parts_of_a_layer_are_told():
    assert shared_words("1000|1111|0000") == "1 (1/4), 2"


def test_the_section_says_which_layers_and_how_sure():
    group, _ = outcome(EPOCHS)
    made = section(group)
    assert made is not None
    (table,) = made.tables
    assert [tuple(row) for row in table.rows] == [
        ("t0", "1", "10", "80 %", "100 %", "20 %"),
        ("t1", "2", "01", "90 %", "0 %", "90 %"),
    ]
    assert "2 different ones were chosen for 2 tasks" in made.text
    assert "80 % to 90 %, on the mean 85 %" in made.text
    moved, histogram, layers, heat = made.figures
    assert "layer 1 50 %, layer 2 50 %" in layers.alt
    assert "10 50 %, 01 50 %" in histogram.alt
    assert b"<svg" in moved.data
    assert b"layer 2" in heat.data


def test_rare_configurations_of_a_histogram_are_told_together():
    texts = [f"{i:04b}" for i in range(10)]
    epochs = [(i, "train", 0.5, {"configuration": t, "posterior": {t: 1.0}}) for i, t in enumerate(texts)]
    rows = [([0.5] * (i + 1), 0.5) for i in range(10)]
    (group,) = groups(trial("LASEM", 0, rows, epochs=epochs))
    made = section(group)
    assert made is not None
    assert "2 others 20 %" in made.figures[1].alt


def test_what_did_not_choose_has_nothing_to_explain():
    group, _ = outcome(
        [(0, "train", 0.5, {"configuration": "11"}), (1, "train", 0.5, {"configuration": "11"})]
    )
    assert section(group) is None
    (plain,) = groups(trial("finetune", 0, TWO))
    assert section(plain) is None


def test_any_report_of_a_learner_that_chooses_explains_it():
    page = html("t", sections(trial("LASEM <b>", 0, TWO, epochs=EPOCHS)))
    assert "LASEM &lt;b&gt;: which layers are shared" in page
    assert "which layers are shared" not in html("t", sections(trial("finetune", 0, TWO)))
