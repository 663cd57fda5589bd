"""``stolon init | learn | classify | tasks | forget`` as a person meets them."""

import json
import shutil
import signal

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.shell.making import (
    BACKBONE,
    FRUIT,
    SKY,
    assert_refused,
    content,
    divided,
    knowledge,
    picture,
    single,
)
from tests.streams.making import png_of_size

from stolon import nets
from stolon.store import Store

DOCUMENTED_KEYS = ["image", "task", "class", "confidence", "known"]


@pytest.fixture
def noise(tmp_path):
    path = tmp_path / "noise.png"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def unfinished(run, empty, made, monkeypatch):
    """A store in which the learning of ``fruit`` was stopped by Ctrl-C."""
    whole = Store.learn

    def learn(self, task, *, seed=0):
        for number, epoch in enumerate(whole(self, task, seed=seed)):
            if number == 5:
                signal.raise_signal(signal.SIGINT)
            yield epoch

    with monkeypatch.context() as patch:
        patch.setattr(Store, "learn", learn)
        assert run("learn", made / "fruit").code == 130
    return empty


class TestInit:
    def test_it_says_what_was_made_and_what_comes_next(self, run, made, tmp_path):
        ended = run(
            *("init", "--store", tmp_path / "new", "--backbone", BACKBONE),
            *("--weights", made / "weights.safetensors"),
        )
        assert ended.code == 0
        assert str(tmp_path / "new") in ended.out
        assert BACKBONE in ended.out
        assert "stolon learn FOLDER" in ended.out
        assert content(tmp_path / "new").keys() == content(made / "empty").keys()

    def test_the_environment_names_the_store(self, run, made, tmp_path, monkeypatch):
        monkeypatch.setenv("STOLON_HOME", str(tmp_path / "home"))
        assert run("init", "--backbone", BACKBONE, "--weights", made / "weights.safetensors").code == 0
        assert run("tasks").code == 0
        assert (tmp_path / "home" / "knowledge").is_dir()

    def test_a_store_is_not_made_over_another(self, run, store, made):
        before = content(store)
        ended = run("init", "--backbone", BACKBONE, "--weights", made / "weights.safetensors")
        assert_refused(ended, 6, "is a store already", "another folder")
        assert content(store) == before

    def test_another_backbone_is_refused_naming_both(self, run, store, tmp_path):
        before = content(store)
        other = nets.make("digits-conv", input_shape=(3, 16, 16), seed=9)
        save_file(other.state_dict(), tmp_path / "other.safetensors")
        ended = run("init", "--backbone", BACKBONE, "--weights", tmp_path / "other.safetensors")
        assert_refused(ended, 5, "was made with", "another folder")
        assert content(store) == before

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            (lambda path: path.unlink(), "no such file"),
            (lambda path: path.write_bytes(b"\x80\x04K\x01."), "never unpickles"),
            (
                lambda path: save_file({**load_file(path), "more": torch.zeros(1)}, path),
                "not part of it",
            ),
        ],
    )
    def test_weights_that_are_missing_or_no_weights_are_refused(self, run, made, tmp_path, spoil, words):
        weights = tmp_path / "weights.safetensors"
        shutil.copy(made / "weights.safetensors", weights)
        spoil(weights)
        ended = run("init", "--store", tmp_path / "new", "--backbone", BACKBONE, "--weights", weights)
        assert_refused(ended, 5, words)
        assert not (tmp_path / "new").exists()

    def test_a_backbone_without_published_weights_asks_for_a_file(self, run, tmp_path):
        ended = run("init", "--store", tmp_path / "new", "--backbone", BACKBONE)
        assert_refused(ended, 5, "--weights FILE")

    def test_an_unknown_backbone_is_refused(self, run, made, tmp_path):
        ended = run(
            *("init", "--store", tmp_path / "new", "--backbone", "no-such-net"),
            *("--weights", made / "weights.safetensors"),
        )
        assert_refused(ended, 2, "no-such-net", "digits-conv")

    def test_a_store_where_no_folder_can_be_is_refused(self, run, made, tmp_path):
        (tmp_path / "file").write_text("in the way")
        ended = run(
            *("init", "--store", tmp_path / "file", "--backbone", BACKBONE),
            *("--weights", made / "weights.safetensors"),
        )
        assert_refused(ended, 6, str(tmp_path / "file"), "File exists")


class TestLearn:
    def test_a_folder_of_classes_becomes_a_task(self, run, empty, made):
        ended = run("learn", made / "fruit")
        assert ended.code == 0
        assert ended.out.startswith("fruit: learned 2 classes in ")
        assert ended.out.endswith("100.0% on 8 test images\n")
        assert ended.err == ""
        with Store.open(empty) as store:
            assert store.learner.classes("fruit") == ("apple", "lime")
            assert store.facts["fruit"]["images"] == 32

    def test_a_folder_that_divides_itself_is_taken_as_divided(self, run, empty, made):
        assert run("learn", made / "sky").code == 0
        with Store.open(empty) as store:
            facts = store.facts["sky"]
            assert (facts["images"], facts["test_images"]) == (32, 12)

    def test_several_folders_are_several_tasks_in_their_order(self, run, empty, made):
        ended = run("learn", made / "sky", made / "fruit")
        assert ended.code == 0
        assert [line.split(":")[0] for line in ended.out.splitlines()] == ["sky", "fruit"]
        with Store.open(empty) as store:
            assert store.learner.tasks == ("sky", "fruit")

    def test_the_same_folder_again_is_passed_over(self, run, store, made):
        before = content(store)
        ended = run("learn", made / "fruit", made / "fruit")
        assert ended.code == 0
        assert ended.out.splitlines() == 2 * ["fruit: learned already, from the same data"]
        assert content(store) == before

    def test_a_changed_folder_is_refused(self, run, store, made, tmp_path):
        changed = shutil.copytree(made / "fruit", tmp_path / "fruit")
        picture(changed / "apple" / "more.png", FRUIT["apple"], 999)
        before = content(store)
        ended = run("learn", changed)
        assert_refused(ended, 4, "'fruit' is known already", "stolon forget")
        assert content(store) == before

    def test_all_problems_of_a_folder_are_told_together(self, run, store, tmp_path):
        folder = divided(tmp_path / "sky", SKY)
        (folder / "train" / "day" / "000.png").write_bytes(b"no picture")
        (folder / "train" / "night").mkdir()
        shutil.copy(folder / "train" / "day" / "001.png", folder / "test" / "day" / "copy.png")
        (folder / "notes.txt").write_text("stray")
        before = content(store)
        ended = run("learn", folder)
        assert ended.code == 3
        assert ended.out == ""
        assert "Traceback" not in ended.err
        first, *problems = ended.err.splitlines()
        assert f"{len(problems)} problem(s) found; nothing was learned" in first
        for words in (
            "not an image: train/day/000.png",
            "class missing in part: test/night",
            "empty class: train/night",
            "same image in parts: train/day/001.png",
            "stray file: notes.txt",
        ):
            assert any(words in problem for problem in problems), words
        assert content(store) == before

    @pytest.mark.parametrize(("where", "code"), [("nowhere", 3), ("file", 3), ("bare", 3)])
    def test_what_is_no_data_set_is_refused(self, run, store, tmp_path, where, code):
        (tmp_path / "file").write_text("x")
        (tmp_path / "bare").mkdir()
        before = content(store)
        ended = run("learn", tmp_path / where)
        assert ended.code == code
        assert where in ended.err
        assert "Traceback" not in ended.err
        assert content(store) == before

    def test_a_task_begun_before_another_is_finished_is_refused(self, run, unfinished, made):
        assert_refused(run("learn", made / "sky"), 4, "'fruit' is under way")

    def test_other_settings_do_not_go_on_with_an_unfinished_task(self, run, unfinished, made):
        ended = run("learn", made / "fruit", "--epochs", 7)
        assert_refused(ended, 7, "settings", "forget")

    def test_an_unfinished_task_is_gone_on_with_to_the_same_end(self, run, unfinished, made):
        assert run("learn", made / "fruit").code == 0
        assert knowledge(unfinished) == knowledge(made / "learned")

    def test_what_was_learned_but_not_yet_measured_is_measured_by_the_same_command(self, run, store, made):
        """As a kill between the end of learning and the end of the test leaves it."""
        whole = knowledge(store)
        with Store.open(store, write=True) as opened:
            opened.facts.clear()
            opened.save()
        ended = run("learn", made / "fruit")
        assert ended.code == 0
        assert "100.0% on 8 test images" in ended.out
        assert knowledge(store) == whole

    def test_biases_and_settings_reach_the_learner(self, run, empty, made):
        assert run("learn", made / "fruit", "--biases=all", "--bias-epochs=1", "--epochs=2").code == 0
        with Store.open(empty) as store:
            settings = store.learner.recipe("fruit")["settings"]
            assert (settings["biases"], settings["bias_epochs"], settings["epochs"]) == ("all", 1, 2)

    @pytest.mark.parametrize(
        "flag", ["--epochs=0", "--bias-epochs=-1", "--seed=-1", "--biases=some", "--x=1"]
    )
    def test_settings_out_of_range_are_refused_by_name(self, run, store, made, flag):
        ended = run("learn", made / "fruit", flag)
        assert ended.code == 2
        assert "error: " in ended.err
        assert flag.split("=")[0].lstrip("-").replace("-", "_") in ended.err.replace("-", "_")
        assert "Traceback" not in ended.err

    def test_without_a_store_the_remedy_is_named(self, run, made, tmp_path):
        ended = run("learn", made / "fruit", "--store", tmp_path / "none")
        assert_refused(ended, 6, "no store", "stolon init")
        assert not (tmp_path / "none").exists()

    def test_while_another_process_writes_it_is_refused(self, run, warm, store, made, tmp_path):
        with Store.open(store, write=True):
            ended = warm.run(tmp_path, "learn", str(made / "sky"), STOLON_HOME=str(store))
        assert_refused(ended, 6, "another process is writing")

    def test_names_that_could_not_be_shown_safely_are_refused_as_they_are(self, run, empty, tmp_path):
        """The terminal's own mark-up and pictures (:smile:) are printed, not obeyed; nothing is learned."""
        folder = single(tmp_path / "[bold]a:smile:", {"[red]x": (220, 40, 40), "y[-]": (40, 200, 60)})
        assert_refused(run("learn", folder), 4, "'[bold]a:smile:'", "rename it")
        single(tmp_path / "fine", {"[red]x": (220, 40, 40), "y": (40, 200, 60)})
        assert_refused(run("learn", tmp_path / "fine"), 4, "'[red]x'", "rename it")
        assert json.loads(run("tasks", "--json").out) == []


class TestClassify:
    def test_answers_come_in_a_table(self, run, store, made, noise):
        ended = run("classify", made / "fruit" / "lime" / "003.png", noise)
        assert ended.code == 0
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in ended.out.splitlines()]
        rows = [row for row in rows if row]
        assert [row[1:3] for row in rows] == [["fruit", "lime"], ["unknown", "unknown"]]
        assert rows[0][0].endswith("003.png")
        assert rows[0][3].endswith("%")
        assert rows[1][3] == ""

    def test_json_is_as_documented_in_the_order_of_the_images(self, run, store, made, noise):
        images = [made / "fruit" / "lime" / "003.png", noise, made / "fruit" / "apple" / "004.png"]
        ended = run("classify", "--json", *images, images[0])
        assert ended.code == 0
        rows = json.loads(ended.out)
        assert [row["image"] for row in rows] == [str(path) for path in (*images, images[0])]
        assert [row["class"] for row in rows] == ["lime", None, "apple", "lime"]
        assert rows[0] == rows[3]
        for row in rows:
            assert list(row) == DOCUMENTED_KEYS
            assert type(row["confidence"]) is float
            assert 0 <= row["confidence"] <= 1
            assert type(row["known"]) is bool

    def test_what_belongs_to_no_task_is_null_and_not_known(self, run, store, noise):
        (row,) = json.loads(run("classify", "--json", noise).out)
        assert (row["task"], row["class"], row["known"]) == (None, None, False)

    def test_a_named_task_is_always_answered(self, run, store, noise):
        (row,) = json.loads(run("classify", "--json", "--task", "fruit", noise).out)
        assert row["task"] == "fruit"
        assert row["class"] in FRUIT
        assert row["known"] is True

    def test_all_unreadable_files_are_named_before_any_answer(self, run, store, made, tmp_path):
        (tmp_path / "text.png").write_text("no picture")
        (tmp_path / "bomb.png").write_bytes(png_of_size(9000, 9000))
        (tmp_path / "cut.png").write_bytes((made / "fruit" / "lime" / "003.png").read_bytes()[:200])
        bad = [tmp_path / name for name in ("text.png", "bomb.png", "cut.png", "missing.png")]
        before = content(store)
        ended = run("classify", made / "fruit" / "lime" / "003.png", *bad, tmp_path)
        assert_refused(ended, 3, *(path.name for path in bad), "megapixels", "No such file")
        assert content(store) == before

    def test_nothing_learned_yet_and_unknown_tasks_are_refused(self, run, empty, noise, made):
        assert_refused(run("classify", noise), 4, "learn one first")
        assert_refused(run("classify", noise, "--task", "birds"), 4, "'birds'")

    def test_a_damaged_store_is_refused_by_name(self, run, store, noise):
        blob = next((store / "knowledge" / "tensors").iterdir())
        blob.write_bytes(blob.read_bytes()[:-1])
        assert_refused(run("classify", noise), 6, "damaged", blob.name)

    def test_it_is_answered_while_another_process_writes(self, run, store, made):
        before = content(store)
        with Store.open(store, write=True):
            assert run("classify", made / "fruit" / "lime" / "003.png").code == 0
        assert content(store) == before


class TestTasks:
    def test_an_empty_store_says_how_to_begin(self, run, empty):
        assert "stolon learn FOLDER" in run("tasks").out
        assert json.loads(run("tasks", "--json").out) == []

    def test_what_was_learned_is_listed(self, run, store):
        out = run("tasks").out
        assert "fruit" in out
        assert "100.0%" in out
        (row,) = json.loads(run("tasks", "--json").out)
        assert row["task"] == "fruit"
        assert row["classes"] == ["apple", "lime"]
        assert (row["images"], row["test_images"], row["test_accuracy"]) == (32, 8, 1.0)
        assert row["biases"] is False
        assert row["bytes"] >= 4 * 2 * (128 + 1)

    def test_an_unfinished_task_is_shown_with_what_can_be_done(self, run, unfinished):
        out = run("tasks").out
        assert "unfinished: fruit" in out
        assert "stolon forget" in out


class TestForget:
    def test_a_forgotten_task_can_be_learned_again_from_other_data(self, run, store, made, tmp_path):
        ended = run("forget", "fruit")
        assert (ended.code, ended.out) == (0, "forgot fruit\n")
        assert json.loads(run("tasks", "--json").out) == []
        assert run("learn", single(tmp_path / "fruit", FRUIT, start=500)).code == 0

    def test_an_unfinished_task_can_be_forgotten(self, run, unfinished, made):
        assert run("forget", "fruit").code == 0
        assert "unfinished" not in run("tasks").out
        assert run("learn", made / "sky").code == 0

    def test_an_unknown_task_is_refused(self, run, store):
        before = content(store)
        assert_refused(run("forget", "birds"), 4, "'birds'", "fruit")
        assert content(store) == before
