"""The Visual Domain Decathlon, from small files in the published layout, and its stand-ins."""

import shutil
from collections import Counter

import pytest
import torch
from tests.streams.making import DECATHLON, DECATHLON_PARTS, decathlon, folder

from stolon import pictures, streams
from stolon.errors import DataMissingError, DataProblemsError, SettingError
from stolon.streams import images
from stolon.streams.decathlon import STAND_INS
from stolon.streams.decathlon_files import SETS
from stolon.tasks import Task

FEW = tuple(DECATHLON)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return decathlon(tmp_path_factory.mktemp("decathlon"))


def make(root, **options):
    return streams.make("decathlon", root=root, **{"size": 8, "only": FEW, **options})


def everything(split):
    return split.batch(torch.arange(len(split)))


def files_of(task):
    return [list(part.paths) for part in (task.train, task.val, task.test)]


@pytest.fixture
def broken(published, tmp_path):
    """A copy to be damaged."""
    shutil.copytree(published / "decathlon-1.0", tmp_path / "decathlon-1.0")
    return tmp_path / "decathlon-1.0"


def test_the_default_is_all_ten_in_the_order_of_the_challenges_tables(tmp_path):
    with pytest.raises(DataMissingError) as caught:
        streams.make("decathlon", root=tmp_path)
    assert ", ".join(SETS) in str(caught.value)
    assert list(SETS)[:3] == ["imagenet12", "aircraft", "cifar100"]
    # The challenge's page and TensorFlow Datasets give these numbers of classes.
    assert sum(SETS.values()) == 3128


def test_published_data_sets_are_tasks_and_published_validation_images_are_the_test_data(published):
    stream = make(published)
    assert not any(isinstance(task, Task) for task in stream._tasks)  # made when asked for
    assert [task.name for task in stream] == list(FEW)
    for task in stream:
        assert task.shape == (3, 8, 8)
        assert task.classes == tuple(
            f"{task.name} no. {label:04}" for label in range(1, DECATHLON[task.name] + 1)
        )
        assert [part.labels.bincount().tolist() for part in (task.train, task.val, task.test)] == [
            [count] * DECATHLON[task.name] for count in (4, 1, 2)
        ]
    assert streams.make("decathlon", root=published, only=["svhn"])[0].shape == (3, 72, 72)


def test_labels_and_pixels_are_those_of_their_files(published):
    task = make(published)[1]
    for part, place in ((task.train, "train"), (task.val, "train"), (task.test, "val")):
        x, y = everything(part)
        assert x.dtype == torch.uint8
        for image, label, path in zip(x, y.tolist(), part.paths, strict=True):
            assert (path.parent.parent.name, path.parent.name) == (place, f"{label + 1:04}")
            assert torch.equal(image, torch.from_numpy(pictures.square(path.read_bytes(), 8)))


def test_whole_images_can_be_squeezed_into_squares(published):
    plain, squeezed = (make(published, squeeze=squeeze)[1] for squeeze in (False, True))
    x, _ = squeezed.test.batch(torch.arange(1))
    expected = pictures.square(squeezed.test.paths[0].read_bytes(), 8, squeeze=True)
    assert torch.equal(x[0], torch.from_numpy(expected))
    assert squeezed.digest() != plain.digest()


def test_the_same_seed_makes_the_same_stream_and_another_one_validates_with_others(published):
    one, same, other = (make(published, seed=seed) for seed in (1, 1, 2))
    assert [task.digest() for task in one] == [task.digest() for task in same]
    assert [task.digest() for task in one] != [task.digest() for task in other]
    assert [task.test.digest() for task in one] == [task.test.digest() for task in other]


def test_no_image_is_in_two_parts_and_none_is_left_out(published):
    used = Counter(path for task in make(published) for part in files_of(task) for path in part)
    assert set(used.values()) == {1}
    home = published.resolve() / "decathlon-1.0" / "data"
    assert used.keys() == {path for part in DECATHLON_PARTS for path in home.glob(f"*/{part}/*/*")}


def test_tasks_can_be_chosen_ordered_and_cut(published):
    assert [task.name for task in make(published, only=["svhn", "daimlerpedcls"])] == [
        "svhn",
        "daimlerpedcls",
    ]
    assert [task.name for task in make(published, tasks=2)] == list(FEW[:2])
    with pytest.raises(SettingError, match="only: expected one of imagenet12, aircraft"):
        make(published, only=["mnist"])
    with pytest.raises(SettingError, match="tasks: expected 1 to 3"):
        make(published, tasks=4)


def test_fewer_classes_and_images_are_the_same_ones_whatever_else_is_asked_for(published):
    whole, few = (
        make(published)[1],
        make(published, classes_per_task=4, train_per_class=3, test_per_class=1)[1],
    )
    assert few.classes == whole.classes[:4]
    assert [part.labels.bincount().tolist() for part in (few.train, few.val, few.test)] == [
        [2] * 4,
        [1] * 4,
        [1] * 4,
    ]
    fewer = make(published, classes_per_task=2, train_per_class=3)[1]
    assert set(files_of(fewer)[0]) < set(files_of(few)[0])
    kept = {frozenset(files_of(make(published, train_per_class=3, seed=seed)[1])[0]) for seed in range(3)}
    assert len(kept) > 1
    assert (
        make(published, classes_per_task=10, train_per_class=5, test_per_class=2)[1].digest()
        == whole.digest()
    )


@pytest.mark.parametrize(
    ("data", "lists"), [(".", "annotations"), ("decathlon-1.0-data", "decathlon-1.0-annotations")]
)
def test_data_sets_are_found_in_other_places(published, tmp_path, data, lists):
    home = published / "decathlon-1.0"
    shutil.copytree(home / "data", tmp_path / data, dirs_exist_ok=True)
    shutil.copytree(home / "annotations", tmp_path / lists)
    assert [task.digest() for task in make(tmp_path)] == [task.digest() for task in make(published)]


def test_without_the_devkit_classes_are_called_like_their_folders(published, broken):
    shutil.rmtree(broken / "annotations")
    task, named = make(broken.parent)[0], make(published)[0]
    assert task.classes == ("0001", "0002")
    assert task.train.digest() == named.train.digest()


def test_the_challenges_test_images_may_be_there_or_not(published, broken):
    shutil.rmtree(broken / "data" / "svhn" / "test")
    assert make(broken.parent)[1].digest() == make(published)[1].digest()


def test_what_does_not_fit_into_memory_is_decoded_in_batches_and_is_the_same(published):
    kept = make(published)
    sizes = [DECATHLON[name] * sum(DECATHLON_PARTS.values()) * 3 * 64 for name in FEW]
    for eager in (False, True):
        partly = make(published, in_memory_limit_bytes=sizes[0] + sizes[1] + 5, check_first=eager)
        assert [task.train.is_in_memory for task in partly] == [True, True, False]
        assert [task.digest() for task in partly] == [task.digest() for task in kept]
        for one, other in zip(kept, partly, strict=True):
            assert torch.equal(everything(one.test)[0], everything(other.test)[0])


def test_files_are_read_once_when_their_task_is_asked_for(published, monkeypatch):
    read = Counter()
    original = images.read
    monkeypatch.setattr(images, "read", lambda path: read.update([path.parts[-4]]) or original(path))
    stream = make(published)
    assert not read
    everything(stream[0].train)
    assert read == {"daimlerpedcls": 14}
    make(published, check_first=True)
    assert read == {"daimlerpedcls": 28, "svhn": 70, "vgg-flowers": 21}


def test_copies_that_are_published_are_taken_as_they_are_and_stay_in_one_part_of_training(broken):
    data = broken / "data" / "svhn"
    image = (data / "train" / "0001" / "000001.jpg").read_bytes()
    for place in ("train/0001/000002.jpg", "train/0002/000006.jpg", "val/0005/000009.jpg"):
        (data / place).write_bytes(image)
    for seed in range(6):
        task = make(broken.parent, seed=seed)[1]
        held = [
            sum(p.read_bytes() == image for p in part if p.parent.name == "0001") for part in files_of(task)
        ]
        assert sorted(held) == [0, 0, 2]


# The stand-ins


def test_every_data_set_of_the_challenge_has_a_stand_in_of_its_own():
    assert list(STAND_INS) == list(SETS)
    assert len(set(STAND_INS.values())) == 10


def test_stand_ins_are_folders_read_as_the_folder_stream_reads_them(tmp_path):
    for number, name in enumerate(("dtd10", "omniglot", "pets")):
        counts = {f"{part}/{c}": n for part, n in (("train", 10), ("test", 3)) for c in "abc"}
        folder(tmp_path / name, counts, start=1000 * number)
    only = ["omniglot", "dtd10", "pets"]
    stream = streams.make("decathlon-folders", root=tmp_path, only=only, size=8, seed=3)
    same = streams.make("folders", root=tmp_path, only=only, size=8, seed=3)
    assert stream.name == "decathlon-folders"
    assert [task.digest() for task in stream] == [task.digest() for task in same]
    assert [task.test.digest() for task in stream] == [task.test.digest() for task in same]
    few = streams.make(
        "decathlon-folders", root=tmp_path, only=only, tasks=2, size=8,
        classes_per_task=2, train_per_class=5, test_per_class=2,
    )  # fmt: skip
    assert [task.name for task in few] == only[:2]
    for task in few:
        assert task.classes == ("a", "b")
        assert [len(part) for part in (task.train, task.val, task.test)] == [8, 2, 4]
    with pytest.raises(DataMissingError, match=r"tiny_imagenet, fruits360.*found only dtd10, omniglot, pets"):
        streams.make("decathlon-folders", root=tmp_path)


def test_stand_ins_with_problems_are_refused_together(tmp_path):
    for name in ("dtd10", "gtsrb"):
        folder(tmp_path / name, {"train/a": 4, "train/b": 4})
        (tmp_path / name / "train" / "a" / "000.png").write_bytes(b"no image")
    with pytest.raises(DataProblemsError) as caught:
        streams.make("decathlon-folders", root=tmp_path, only=["dtd10", "gtsrb"], size=8)
    assert [problem.where for problem in caught.value.problems] == [
        "dtd10/train/a/000.png",
        "gtsrb/train/a/000.png",
    ]


@pytest.mark.real_data
def test_the_stand_ins_of_shared_data_are_ten_tasks_of_72_pixels(shared_data):
    stream = streams.make("decathlon-folders", root=shared_data / "datasets")
    counts = {
        task.name: (len(task.classes), len(task.train) + len(task.val), len(task.test)) for task in stream
    }
    assert counts == {
        "tiny_imagenet": (30, 1200, 600),
        "fruits360": (16, 960, 480),
        "cifar10": (10, 1500, 500),
        "brain_mri": (4, 400, 200),
        "dtd10": (10, 800, 400),
        "gtsrb": (43, 1720, 860),
        "plant_seedlings": (12, 840, 360),
        "omniglot": (50, 700, 300),
        "chars74k": (33, 990, 495),
        "asl_hands": (36, 1440, 720),
    }
    for task in stream:
        assert task.shape == (3, 72, 72)
        assert task.train.is_in_memory
        assert len(task.val) > 0
        parts = [set(paths) for paths in files_of(task)]
        assert sum(map(len, parts)) == len(set.union(*parts))
        for label, path in zip(task.test.labels.tolist(), task.test.paths, strict=True):
            assert path.parent.name == task.classes[label]
    quick = streams.make(
        "decathlon-folders",
        root=shared_data / "datasets",
        classes_per_task=3,
        train_per_class=12,
        test_per_class=5,
    )
    assert {(len(task.train), len(task.val), len(task.test)) for task in quick} == {(33, 3, 15)}
    # The stand-ins' folders gtsrb and omniglot have no val: they are not taken for the challenge's own.
    with pytest.raises(DataMissingError, match="gtsrb, omniglot"):
        streams.make("decathlon", root=shared_data / "datasets", only=["gtsrb", "omniglot"])
