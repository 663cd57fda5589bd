"""ImageNet and Tiny ImageNet, from small files in the published layouts."""

import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.io import savemat
from tests.streams.making import picture

from stolon import pictures, streams
from stolon.errors import DataError, DataMissingError, DataProblemsError, SettingError
from stolon.streams import imagenet, images
from stolon.tasks import Task, to_float

CLASSES = tuple(f"n{number:08}" for number in range(7, 19))  # twelve
TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number, size=(16, 12), format="JPEG"))


def train_part(root, inner="."):
    for label, name in enumerate(CLASSES):
        for index in range(6):
            save(root / "train" / name / inner / f"{name}_{index}.JPEG", 100 * label + index)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve classes with six training and two test images each, all in folders of their classes."""
    root = tmp_path_factory.mktemp("imagenet")
    train_part(root)
    for label, name in enumerate(CLASSES):
        for index in range(2):
            save(
                root / "val" / name / f"ILSVRC2012_val_{2 * label + index + 1:08}.JPEG",
                5000 + 2 * label + index,
            )
    return root


@pytest.fixture(scope="module")
def flat(tmp_path_factory, folders):
    """The same with the validation images as published, and the devkit, whose numbers are not the names' order."""
    root = tmp_path_factory.mktemp("flat")
    (root / "val").mkdir()
    shutil.copytree(folders / "train", root / "train")
    for file in (folders / "val").glob("*/*"):
        shutil.copy(file, root / "val")
    devkit(root / "ILSVRC2012_devkit_t12" / "data")
    return root


def devkit(folder):
    folder.mkdir(parents=True)
    numbers = {name: len(CLASSES) - label for label, name in enumerate(CLASSES)}
    lines = [numbers[name] for name in CLASSES for _ in range(2)]
    (folder / TRUTH).write_text("".join(f"{line}\n" for line in lines))
    rows = [(number, name, f"words of {name}", 0) for name, number in numbers.items()]
    rows.append((1001, "n99999999", "an inner node", 3))
    fields = [("ILSVRC2012_ID", "f8"), ("WNID", object), ("words", object), ("num_children", "f8")]
    savemat(
        folder / "meta.mat", {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)}, do_compression=True
    )


@pytest.fixture(scope="module")
def published_tiny(tmp_path_factory):
    """Tiny ImageNet as published, with the files beside the images, and the test part that has no labels."""
    root = tmp_path_factory.mktemp("tiny")
    home = root / "tiny-imagenet-200"
    train_part(home, "images")
    lines = []
    for label, name in enumerate(CLASSES):
        (home / "train" / name / f"{name}_boxes.txt").write_text("n00_0.JPEG\t0\t0\t62\t62\n")
        for index in range(2):
            number = 2 * label + index
            save(home / "val" / "images" / f"val_{number}.JPEG", 5000 + number)
            lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (home / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    save(home / "test" / "images" / "test_0.JPEG", 9000)
    (home / "wnids.txt").write_text("\n".join(reversed(CLASSES)))
    return root


def make(root, name="imagenet-split", **options):
    return streams.make(name, root=root, **{"size": 8, "classes_per_task": 4, **options})


def everything(split):
    return split.batch(torch.arange(len(split)))


def files_of(task):
    return [list(part.paths) for part in (task.train, task.val, task.test)]


def test_classes_are_dealt_out_in_the_order_of_their_folders(folders):
    stream = make(folders)
    assert not any(isinstance(task, Task) for task in stream._tasks)  # made when asked for
    assert [(task.name, task.classes) for task in stream] == [
        ("imagenet-split-0", CLASSES[:4]),
        ("imagenet-split-1", CLASSES[4:8]),
        ("imagenet-split-2", CLASSES[8:]),
    ]
    for task in stream:
        assert task.shape == (3, 8, 8)
        assert [part.labels.bincount().tolist() for part in (task.train, task.val, task.test)] == [
            [5] * 4, [1] * 4, [2] * 4
        ]  # fmt: skip


def test_ten_classes_are_a_task_unless_the_number_of_tasks_is_given(folders):
    assert [len(task.classes) for task in streams.make("imagenet-split", root=folders, size=8)] == [10]
    assert [len(task.classes) for task in streams.make("imagenet-split", root=folders, size=8, tasks=6)] == [
        2
    ] * 6
    with pytest.raises(SettingError, match="at most 12 classes in all, found 2 tasks of 10"):
        streams.make("imagenet-split", root=folders, tasks=2, classes_per_task=10)


def test_labels_and_pixels_are_those_of_their_files(folders):
    task = make(folders)[1]
    for part, folder in ((task.train, "train"), (task.val, "train"), (task.test, "val")):
        x, y = everything(part)
        assert x.dtype == torch.uint8
        for image, label, path in zip(x, y.tolist(), part.paths, strict=True):
            assert (path.parent.parent.name, path.parent.name) == (folder, task.classes[label])
            assert torch.equal(image, torch.from_numpy(pictures.square(path.read_bytes(), 8)))


def test_the_seed_decides_validation_data_and_a_seeded_order(folders):
    one, same, other = (make(folders, seed=seed, order="seeded") for seed in (1, 1, 2))
    assert [task.digest() for task in one] == [task.digest() for task in same]
    assert [task.classes for task in one] != [task.classes for task in other]
    assert sorted(name for task in one for name in task.classes) == list(CLASSES)
    validated = [set(make(folders, seed=seed)[0].val.paths) for seed in range(4)]
    assert len(set(map(frozenset, validated))) > 1


def test_an_image_is_in_the_same_part_however_classes_are_dealt_out(folders):
    def parts(**options):
        return [
            sorted(path for task in make(folders, **options) for path in files_of(task)[i]) for i in range(3)
        ]

    assert parts() == parts(order="seeded") == parts(classes_per_task=2)
    assert parts(train_per_class=4) == parts(train_per_class=4, classes_per_task=3)


def test_fewer_images_of_each_class_can_be_kept(folders):
    task = make(folders, train_per_class=3)[0]
    assert [part.labels.bincount().tolist() for part in (task.train, task.val)] == [[2] * 4, [1] * 4]
    assert len(task.test) == 8
    whole = make(folders, train_per_class=6)[0]
    assert whole.digest() == make(folders)[0].digest()
    kept = [set(files_of(make(folders, train_per_class=3, seed=seed)[0])[0]) for seed in range(4)]
    assert len(set(map(frozenset, kept))) > 1


def test_files_are_read_when_their_task_is_asked_for(folders, monkeypatch):
    read = Counter()
    original = images.read
    monkeypatch.setattr(images, "read", lambda path: read.update([path.parent.name]) or original(path))
    stream = make(folders)
    assert not read
    task = stream[1]
    assert read == dict.fromkeys(task.classes, 8)
    task.train.batch(torch.arange(5))
    assert sum(read.values()) == 4 * 8  # kept from that reading
    make(folders, check_first=True)
    assert sum(read.values()) == 4 * 8 + 12 * 8


def test_what_does_not_fit_into_memory_is_decoded_in_batches_and_is_the_same(folders):
    kept = make(folders)
    for eager in (False, True):
        partly = make(folders, in_memory_limit_bytes=2 * 32 * 3 * 64 + 5, check_first=eager)
        assert [task.train.is_in_memory for task in partly] == [True, True, False]
        assert [task.digest() for task in partly] == [task.digest() for task in kept]
        for one, other in zip(kept, partly, strict=True):
            assert torch.equal(everything(one.train)[0], everything(other.train)[0])


def test_normalised_images_are_floats_with_the_usual_figures(folders):
    plain, scaled = (make(folders, normalize=normalize)[0] for normalize in (False, True))
    order = torch.tensor([3, 0, 3])
    x, y = plain.train.batch(order)
    found, labels = scaled.train.batch(order)
    mean, std = (torch.tensor(values)[:, None, None] for values in imagenet.STANDARD.__dict__.values())
    assert torch.allclose(found, (to_float(x) - mean) / std, atol=1e-6)
    assert torch.equal(labels, y)
    assert torch.equal(scaled.train.labels, plain.train.labels)
    assert (len(scaled.val), scaled.shape) == (len(plain.val), plain.shape)
    assert len({scaled.train.digest(), scaled.val.digest(), plain.train.digest(), plain.val.digest()}) == 4
    assert scaled.digest() == make(folders, normalize=True)[0].digest()


@pytest.mark.parametrize("place", ["imagenet", "ImageNet", "ILSVRC2012"])
def test_the_set_is_found_in_a_folder_of_the_root(folders, tmp_path, place):
    (tmp_path / place).symlink_to(folders)
    assert make(tmp_path)[0].digest() == make(folders)[0].digest()


def test_supsups_order_is_the_one_its_code_draws(tmp_path):
    # data/splitimagenet.py: np.random.seed(1), then np.random.permutation(1000)
    for part in ("train", "val"):
        for number in range(1000):
            (tmp_path / part / f"n{number:08}").mkdir(parents=True)
    stream = make(tmp_path, order="supsup", classes_per_task=10)
    assert len(stream) == 100
    groups = [maker.args[-1] for maker in stream._tasks]
    order = np.random.RandomState(1).permutation(1000)
    assert [name for group in groups for name in group] == [f"n{number:08}" for number in order]
    assert groups[0][:4] == ("n00000507", "n00000818", "n00000452", "n00000368")
    assert [maker.args[-1] for maker in make(tmp_path, order="supsup", seed=9, tasks=2)._tasks] == [
        groups[0][:4], groups[0][4:8]
    ]  # fmt: skip


def test_supsups_order_needs_its_thousand_classes(folders):
    with pytest.raises(SettingError, match="order 'supsup': expected a set of 1000 classes, found 12"):
        make(folders, order="supsup")


# The validation images as published


def test_published_validation_images_get_their_labels_from_the_devkit(flat, folders):
    for one, other in zip(make(flat), make(folders), strict=True):
        assert torch.equal(everything(one.test)[0], everything(other.test)[0])
        assert torch.equal(one.test.labels, other.test.labels)
        assert one.test.digest() == other.test.digest()
        assert one.digest() == other.digest()


def test_the_devkit_may_lie_beside_the_images_or_beside_the_set(flat, tmp_path):
    set_ = tmp_path / "ILSVRC2012"
    shutil.copytree(flat, set_)
    data = set_ / "ILSVRC2012_devkit_t12"
    for target in (tmp_path / data.name, None):
        if target is None:
            for file in (tmp_path / data.name / "data").iterdir():
                file.rename(set_ / file.name)
        else:
            data.rename(target)
        assert make(tmp_path)[0].test.digest() == make(flat)[0].test.digest()


@pytest.fixture
def broken(flat, tmp_path):
    """A copy of the flat set to be damaged."""
    shutil.copytree(flat, tmp_path / "set")
    return tmp_path / "set"


def test_without_the_devkit_it_says_where_to_get_it(broken):
    (broken / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").unlink()
    with pytest.raises(
        DataMissingError, match=r"ground_truth\.txt and meta\.mat in .*devkit_t12\.tar\.gz from https"
    ):
        make(broken)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda lines: lines[:-1],
            "to ILSVRC2012_val_00000023.JPEG, one for each of the labels.*found 24 files",
        ),
        (lambda lines: [*lines, "3"], "to ILSVRC2012_val_00000025.JPEG"),
        (lambda lines: ["77", *lines[1:]], "a class number of meta.mat in each line, found '77'"),
        (lambda lines: ["x" * 90, *lines[1:]], "found 'xxxxxxxxxxxxxxxxxxxx'"),
        (lambda lines: [], "found no lines"),
        (lambda lines: ["1001", *lines[1:]], "labels of the 12 classes of train, found n99999999 besides"),
    ],
)
def test_labels_that_are_not_those_of_the_images_are_refused(broken, change, words):
    path = broken / "ILSVRC2012_devkit_t12" / "data" / TRUTH
    path.write_text("\n".join(change(path.read_text().split())))
    with pytest.raises(DataError, match=words):
        make(broken)


@pytest.mark.parametrize("name", ["ILSVRC2012_val_00000099.JPEG", "notes.txt"])
def test_files_beside_the_published_ones_are_refused(broken, name):
    save(broken / "val" / name, 1)
    with pytest.raises(DataError, match="and nothing else, found 25 files"):
        make(broken)


def test_a_table_of_classes_that_is_damaged_is_refused(broken):
    path = broken / "ILSVRC2012_devkit_t12" / "data" / "meta.mat"
    whole = path.read_bytes()
    damaged = [
        b"",
        b"no table",
        whole[:100],
        whole[:300],
        whole[:-9],
        whole[:200] + b"\xff" * 40 + whole[240:],
    ]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=r"meta\.mat: expected the devkit's table of classes, found: .*get it again"
        ):
            make(broken)
    savemat(path, {"other": 3})
    with pytest.raises(DataError, match="expected the devkit's table of classes"):
        make(broken)
    savemat(path, {"synsets": np.zeros(3)})
    with pytest.raises(DataError, match="expected the devkit's table of classes"):
        make(broken)


# What is wrong with folders


def test_missing_sets_say_where_to_get_them_and_where_to_put_them(tmp_path):
    with pytest.raises(
        DataMissingError, match=r"expected train/ and val/ in .*img_train\.tar.*https://.*root="
    ) as caught:
        make(tmp_path)
    assert str(tmp_path / "imagenet") in str(caught.value)
    with pytest.raises(
        DataMissingError, match=r"train/ and val/ or test/ in .*tiny-imagenet-200\.zip from http"
    ):
        make(tmp_path, "tiny-imagenet-split")


@pytest.fixture
def copy(folders, tmp_path):
    """A copy of the set in folders to be damaged."""
    shutil.copytree(folders, tmp_path / "set")
    return tmp_path / "set"


def test_classes_that_differ_between_the_parts_are_refused(copy):
    (copy / "val" / CLASSES[3]).rename(copy / "val" / "n55555555")
    with pytest.raises(
        DataError, match=f"the 12 classes of train, found {CLASSES[3]} missing and n55555555 besides"
    ):
        make(copy)


def test_what_is_neither_a_class_nor_an_image_is_refused(copy):
    (copy / "train" / "list.txt").write_text("")
    with pytest.raises(DataError, match=r"train: expected only folders, found a file 'list\.txt'"):
        make(copy)
    (copy / "train" / "list.txt").unlink()
    (copy / "train" / ".hidden").write_text("passed over")
    (copy / "train" / CLASSES[0] / "more").mkdir()
    with pytest.raises(DataError, match=r"expected only files, found a folder 'more'"):
        make(copy)[0]
    shutil.rmtree(copy / "train")
    (copy / "train").mkdir()
    with pytest.raises(DataError, match="expected a folder for each class, found none"):
        make(copy)


def test_links_within_the_set_are_followed_and_others_are_refused(copy, tmp_path):
    file = copy / "val" / CLASSES[0] / "ILSVRC2012_val_00000001.JPEG"
    (copy / "store").mkdir()
    file.rename(copy / "store" / "x.JPEG")
    file.symlink_to(copy / "store" / "x.JPEG")
    assert len(make(copy)[0].test) == 8
    (copy / "store" / "x.JPEG").rename(tmp_path / "x.JPEG")
    for target in (tmp_path / "x.JPEG", tmp_path / "nothing", file):
        file.unlink()
        file.symlink_to(target)
        with pytest.raises(DataError, match=r"00000001\.JPEG: expected a link to something in"):
            make(copy)[0]


def test_all_damage_of_a_task_is_told_when_it_is_asked_for_or_before(copy):
    train = copy / "train"
    (train / CLASSES[5] / f"{CLASSES[5]}_0.JPEG").write_bytes(b"no image")
    (train / CLASSES[9] / f"{CLASSES[9]}_0.JPEG").write_bytes(b"\xff\xd8\xff")
    for path in (copy / "val" / CLASSES[9]).iterdir():
        path.unlink()
    stream = make(copy)
    assert stream[0].classes == CLASSES[:4]
    with pytest.raises(DataProblemsError) as caught:
        stream[2]
    assert [problem.kind for problem in caught.value.problems] == ["empty class", "broken image"]
    with pytest.raises(DataProblemsError) as caught:
        make(copy, check_first=True)
    assert [problem.kind for problem in caught.value.problems] == [
        "not an image",
        "empty class",
        "broken image",
    ]


def test_too_few_images_are_refused(copy):
    for path in sorted((copy / "train" / CLASSES[0]).iterdir())[2:]:
        path.unlink()
    with pytest.raises(DataProblemsError, match="too few samples"):
        make(copy)[0]
    assert len(make(copy, val_share=0.0)[0].train) == 2 + 3 * 6


def test_the_same_image_in_two_classes_or_parts_is_taken_as_published(copy):
    image = (copy / "train" / CLASSES[0] / f"{CLASSES[0]}_0.JPEG").read_bytes()
    for name, count in ((CLASSES[0], 5), (CLASSES[1], 1)):
        for index in range(count):
            (copy / "train" / name / f"copy{index}.JPEG").write_bytes(image)
    (copy / "val" / CLASSES[2] / "copy.JPEG").write_bytes(image)
    for seed in range(3):
        task = make(copy, seed=seed)[0]
        assert [len(part) for part in (task.train, task.val, task.test)] in ([26, 4, 9], [21, 9, 9])
        held = [
            sum(p.read_bytes() == image for p in part if p.parent.name == CLASSES[0])
            for part in files_of(task)
        ]
        assert sorted(held) == [0, 0, 6]


# Tiny ImageNet


def test_tiny_imagenet_is_read_as_published(published_tiny, folders):
    stream = make(published_tiny, "tiny-imagenet-split")
    assert [task.name for task in stream] == [f"tiny-imagenet-split-{i}" for i in range(3)]
    for task, other in zip(stream, make(folders), strict=True):
        assert task.classes == other.classes
        for part, same in ((task.train, other.train), (task.val, other.val), (task.test, other.test)):
            assert part.digest() == same.digest()


@pytest.mark.parametrize("part", ["val", "test"])
def test_tiny_imagenet_is_read_from_folders_of_classes(folders, tmp_path, part):
    shutil.copytree(folders / "train", tmp_path / "tiny_imagenet" / "train")
    shutil.copytree(folders / "val", tmp_path / "tiny_imagenet" / part)
    for root in (tmp_path, tmp_path / "tiny_imagenet"):
        for task, other in zip(make(root, "tiny-imagenet-split"), make(folders), strict=True):
            assert task.test.digest() == other.test.digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[:-1], "for each of the 24 files in val/images, found 23 lines, of 23 files"),
        (lambda lines: [*lines[:-1], lines[0]], "found 24 lines, of 23 files"),
        (lambda lines: [*lines[:-1], "val_77.JPEG\tn00000007"], "found 24 lines, of 24 files"),
        (lambda lines: [*lines[:-1], "val_23.JPEG n00000007"], "found 24 lines, of 23 files"),
        (
            lambda lines: [lines[0].replace("n000", "n777"), *lines[1:]],
            "labels of the 12 classes of train, found n777",
        ),
    ],
)
def test_a_list_of_labels_that_is_not_that_of_the_images_is_refused(published_tiny, tmp_path, change, words):
    shutil.copytree(published_tiny, tmp_path / "set")
    path = tmp_path / "set" / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(DataError, match=words):
        make(tmp_path / "set", "tiny-imagenet-split")


@pytest.mark.real_data
def test_the_classes_of_shared_data_are_three_tasks(shared_data):
    stream = streams.make("tiny-imagenet-split", root=shared_data / "datasets")
    assert len(stream) == 3
    assert stream[0].classes[:2] == ("n01443537_goldfish", "n01698640_american_alligator")
    for task in stream:
        assert [len(part) for part in (task.train, task.val, task.test)] == [360, 40, 200]
        assert task.shape == (3, 64, 64)
        assert task.train.is_in_memory
    few = streams.make(
        "tiny-imagenet-split",
        root=shared_data / "datasets" / "tiny_imagenet",
        tasks=6,
        train_per_class=20,
        in_memory_limit_bytes=0,
        check_first=False,
    )
    assert [len(task.classes) for task in few[:2]] == [5, 5]
    assert [len(part) for part in (few[0].train, few[0].val, few[0].test)] == [90, 10, 100]
    x, _ = few[0].train.batch(torch.arange(3))
    assert torch.equal(x[0], torch.from_numpy(pictures.square(few[0].train.paths[0].read_bytes(), 64)))
