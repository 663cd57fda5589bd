import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.streams.making import folder, picture, whole_folder

from stolon import streams
from stolon.errors import DataError, DataMissingError, DataProblemsError, SettingError
from stolon.streams import folders, images


def everything(split):
    return split.batch(torch.arange(len(split)))


def test_a_folder_with_all_parts_is_a_task_named_after_it(tmp_path):
    task = folders.read_task(whole_folder(tmp_path / "pets"), size=8)
    assert (task.name, task.classes) == ("pets", ("cat", "dog"))
    assert [len(part) for part in (task.train, task.val, task.test)] == [12, 4, 6]
    assert task.shape == (3, 8, 8)
    x, y = everything(task.test)
    assert y.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(x, images.decode_many(task.test.paths, 8))


def test_a_missing_validation_part_is_a_share_of_each_class_of_training_data(tmp_path):
    folder(tmp_path / "pets", {"train/cat": 20, "train/dog": 30, "test/cat": 2, "test/dog": 2})
    task = folders.read_task(tmp_path / "pets", size=4)
    assert task.val.labels.bincount().tolist() == [2, 3]
    assert task.train.labels.bincount().tolist() == [18, 27]
    assert len(task.test) == 4
    assert not set(task.train.paths) & set(task.val.paths)


def test_class_folders_alone_are_split_like_a_training_part_alone(tmp_path):
    folder(tmp_path / "a" / "pets", {"cat": 20, "dog": 10})
    folder(tmp_path / "b" / "pets", {"train/cat": 20, "train/dog": 10})
    plain = folders.read_task(tmp_path / "a" / "pets", size=4)
    parted = folders.read_task(tmp_path / "b" / "pets", size=4)
    assert [len(part) for part in (plain.train, plain.val, plain.test)] == [21, 3, 6]
    assert plain.digest() == parted.digest()


def test_the_seed_decides_the_split_and_nothing_else_does(tmp_path):
    path = folder(tmp_path / "pets", {"cat": 20, "dog": 20})
    first, again, other = (folders.read_task(path, size=4, seed=seed) for seed in (1, 1, 2))
    assert first.digest() == again.digest()
    assert first.digest() != other.digest()
    tested = contents(first.test)
    for index, old in enumerate(sorted((path / "cat").iterdir())):
        old.rename(old.with_name(f"renamed{(index * 7) % 20}.png"))
    renamed = folders.read_task(path, size=4, seed=1)
    assert contents(renamed.test) == tested


def test_an_added_image_moves_few_others_between_parts(tmp_path):
    path = folder(tmp_path / "pets", {"cat": 40, "dog": 40})
    before = contents(folders.read_task(path, size=4).test)
    (path / "cat" / "new.png").write_bytes(picture(999))
    assert len(contents(folders.read_task(path, size=4).test) ^ before) <= 2


def test_copies_of_an_image_stay_in_one_part(tmp_path):
    path = folder(tmp_path / "pets", {"cat": 10, "dog": 10})
    for original in list((path / "cat").iterdir()):
        for copy in range(3):
            shutil.copy(original, original.with_name(f"copy{copy}-{original.name}"))
    task = folders.read_task(path, size=4)
    parts = [contents(part) for part in (task.train, task.val, task.test)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert sum(len(part) for part in (task.train, task.val, task.test)) == 50


def contents(split):
    return {path.read_bytes() for path in split.paths}


def test_memory_or_files_give_the_same_rows_and_the_same_digest(tmp_path):
    path = whole_folder(tmp_path / "pets")
    kept = folders.read_task(path, size=8)
    decoded = folders.read_task(path, size=8, in_memory_limit_bytes=0, workers=2)
    assert (kept.train.is_in_memory, decoded.train.is_in_memory) == (True, False)
    assert kept.digest() == decoded.digest()
    order = torch.tensor([5, 0, 11, 5])
    for got, expected in zip(decoded.train.batch(order), kept.train.batch(order), strict=True):
        assert torch.equal(got, expected)


def test_rows_do_not_depend_on_how_they_are_asked_for(tmp_path):
    task = folders.read_task(whole_folder(tmp_path / "pets"), size=8, in_memory_limit_bytes=0)
    x, y = everything(task.train)
    for index in reversed(range(len(task.train))):
        one_x, one_y = task.train.batch(torch.tensor([index]))
        assert torch.equal(one_x[0], x[index])
        assert one_y[0] == y[index] == task.train.labels[index]


def test_a_file_changed_or_gone_after_inspection_is_refused(tmp_path):
    path = whole_folder(tmp_path / "pets")
    task = folders.read_task(path, size=8, in_memory_limit_bytes=0)
    (path / "train/cat/000.png").write_bytes(picture(777))
    (path / "train/cat/001.png").unlink()
    with pytest.raises(DataError, match=r"(?s)000\.png.*another content.*001\.png"):
        everything(task.train)


def test_reading_once_is_enough_for_memory(tmp_path, monkeypatch):
    path = whole_folder(tmp_path / "pets")
    reads = []
    original = images.read
    monkeypatch.setattr(images, "read", lambda file: reads.append(file) or original(file))
    everything(folders.read_task(path, size=8).train)
    assert len(reads) == len(set(reads)) == 22


def test_size_and_content_change_the_digest(tmp_path):
    path = whole_folder(tmp_path / "pets")
    digests = {folders.read_task(path, size=8).digest(), folders.read_task(path, size=9).digest()}
    (path / "train/dog/000.png").write_bytes(picture(555))
    digests.add(folders.read_task(path, size=8).digest())
    assert len(digests) == 3


def test_a_folder_that_is_not_there_says_what_to_make(tmp_path):
    with pytest.raises(DataMissingError, match="train/CLASS"):
        folders.read_task(tmp_path / "none", size=8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"val_share": 0.95},
        {"val_share": 0.5, "test_share": 0.5},
        {"test_share": float("nan")},
        {"workers": -1},
        {"in_memory_limit_bytes": -1},
        {"seed": "x"},
    ],
)
def test_a_setting_out_of_range_is_refused_before_reading(wrong, tmp_path):
    with pytest.raises(SettingError):
        folders.read_task(tmp_path / "none", **{"size": 8, **wrong})


# The stream


def test_a_tree_is_a_stream_of_its_folders_sorted_by_name(tmp_path):
    for start, name in enumerate(("zoo", "birds")):
        whole_folder(tmp_path / name, start=100 * start)
    stream = streams.make("folders", root=tmp_path, size=8)
    assert [task.name for task in stream] == ["birds", "zoo"]
    chosen = streams.make("folders", root=tmp_path, size=8, only=["zoo"])
    assert [task.digest() for task in chosen] == [stream[1].digest()]


def test_files_and_sets_in_other_forms_beside_the_folders_are_passed_over(tmp_path):
    whole_folder(tmp_path / "zoo")
    (tmp_path / "LICENCE").write_text("free")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte.gz").write_bytes(b"")
    (tmp_path / "CIFAR100").mkdir()
    (tmp_path / "CIFAR100" / "set.npz").write_bytes(b"")
    (task,) = streams.make("folders", root=tmp_path, size=8)
    assert task.name == "zoo"
    images_of_it = sum(len(part) for part in (task.train, task.val, task.test))
    assert folders.sets(tmp_path) == {tmp_path / "zoo": images_of_it}
    (tmp_path / "notes").symlink_to("/")
    with pytest.raises(DataProblemsError):
        folders.sets(tmp_path)


def test_problems_of_all_folders_are_told_together_before_the_first_task(tmp_path):
    for start, name in enumerate(("ants", "bees", "cats")):
        whole_folder(tmp_path / name, start=100 * start)
    (tmp_path / "ants/train/cat/000.png").write_bytes(b"no image")
    shutil.rmtree(tmp_path / "cats/test/dog")
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataProblemsError) as caught:
        streams.make("folders", root=tmp_path, size=8)
    found = {(problem.kind, problem.where) for problem in caught.value.problems}
    assert found == {
        ("not an image", "ants/train/cat/000.png"),
        ("class missing in part", "cats/test/dog"),
        ("no classes", "notes"),
    }


def test_without_the_first_check_names_are_judged_now_and_images_when_asked_for(tmp_path):
    for start, name in enumerate(("ants", "bees")):
        whole_folder(tmp_path / name, start=100 * start)
    (tmp_path / "bees/train/cat/000.png").write_bytes(b"no image")
    stream = streams.make("folders", root=tmp_path, size=8, check_first=False)
    assert stream[0].name == "ants"
    with pytest.raises(DataProblemsError, match="not an image"):
        stream[1]
    (tmp_path / "bees/train/dog").rename(tmp_path / "bees/train/wolf")
    with pytest.raises(DataProblemsError, match="class missing in part"):
        streams.make("folders", root=tmp_path, size=8, check_first=False)


def test_the_memory_of_a_stream_is_bounded_over_all_its_tasks(tmp_path):
    for start, name in enumerate(("ants", "bees")):
        whole_folder(tmp_path / name, start=100 * start)
    stream = streams.make("folders", root=tmp_path, size=8, in_memory_limit_bytes=22 * 3 * 64)
    assert [task.train.is_in_memory for task in stream] == [True, False]


def test_links_out_of_the_tree_and_names_that_clash_are_problems(tmp_path):
    tree = tmp_path / "tree"
    whole_folder(tree / "zoo")
    whole_folder(tree / "Zoo", start=100)
    whole_folder(tmp_path / "outside", start=200)
    (tree / "linked").symlink_to(tmp_path / "outside")
    (tree / "looped").symlink_to(tree / "looped")
    (tree / "inside").symlink_to(tree / "zoo")
    with pytest.raises(DataProblemsError) as caught:
        streams.make("folders", root=tree, size=8)
    found = {(problem.kind, problem.where) for problem in caught.value.problems}
    assert found == {
        ("link out of the tree", "linked"),
        ("broken link", "looped"),
        ("name clash by case", "zoo"),
    }


@pytest.mark.parametrize("only", [["absent"], ["zoo", "absent"]])
def test_a_set_that_is_asked_for_and_not_there_is_missing(only, tmp_path):
    whole_folder(tmp_path / "zoo")
    with pytest.raises(DataMissingError, match=r"absent in .*found only zoo"):
        streams.make("folders", root=tmp_path, only=only)


@pytest.mark.parametrize("only", ["zoo", [], ["../zoo"], [1], ["a", "a"]])
def test_an_impossible_choice_is_refused(only, tmp_path):
    whole_folder(tmp_path / "zoo")
    with pytest.raises(SettingError, match="only"):
        streams.make("folders", root=tmp_path, only=only)


def test_an_empty_or_absent_tree_says_what_belongs_there(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataMissingError, match="NAME/train/CLASS"):
            streams.make("folders", root=root)


@settings(max_examples=25)
@given(counts=st.lists(st.integers(5, 30), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_parts_are_disjoint_complete_and_stratified(counts, seed, tmp_path_factory):
    path = folder(tmp_path_factory.mktemp("law") / "set", {f"class{i}": n for i, n in enumerate(counts)})
    task = folders.read_task(path, size=2, seed=seed)
    parts = [set(part.paths) for part in (task.train, task.val, task.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == sum(counts)
    for label, count in enumerate(counts):
        sizes = [int((part.labels == label).sum()) for part in (task.train, task.val, task.test)]
        assert sizes[1:] == [max(1, round(0.1 * count)), max(1, round(0.2 * count))]
