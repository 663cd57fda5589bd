"""STL-10 and LASEM's recipe, from small files in the published form."""

import hashlib
import itertools
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.streams.making import cifar10, stl10

from stolon import streams
from stolon.errors import DataError, DataMissingError, SettingError
from stolon.streams import stl
from stolon.streams.labelled import Labelled
from stolon.streams.noise import gaussian
from stolon.tasks import Task


def everything(split):
    return split.batch(torch.arange(len(split)))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Eight training and two test images of each class."""
    root = tmp_path_factory.mktemp("stl")
    stl10(root, per_class=8)
    return root


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    """CIFAR-10 with as many images per class as STL-10 has for training: 500."""
    root = tmp_path_factory.mktemp("cifar")
    cifar10(root, per_class=100)
    return root


def make(root, **options):
    return streams.make("stl10-lasem", root=root, **{"data_share": 0.5, **options})


def test_stl_images_are_read_column_by_column(small):
    folder = small / "stl10_binary"
    data = stl.load(small)
    assert data.classes == tuple(f"class{i}" for i in range(10))
    for images, labels, name in (
        (data.train, data.train_labels, "train"),
        (data.test, data.test_labels, "test"),
    ):
        content = (folder / f"{name}_X.bin").read_bytes()
        assert images.shape == (len(content) // 27648, 3, 96, 96)
        for number in (0, len(images) - 1):
            for channel in range(3):
                plane = np.frombuffer(content, np.uint8, 9216, 27648 * number + 9216 * channel)
                assert np.array_equal(images[number, channel].numpy(), plane.reshape((96, 96), order="F"))
        assert (labels + 1).tolist() == list((folder / f"{name}_y.bin").read_bytes())
    assert torch.equal(stl.load(folder).train, data.train)  # the folder itself is a root as well


def test_tasks_have_class_sets_and_looks_of_their_own(small):
    stream = make(small)
    assert not any(isinstance(task, Task) for task in stream._tasks)  # made when asked for
    tasks = list(stream)
    assert (len(tasks), tasks[0].shape) == (20, (3, 96, 96))
    assert len({task.name for task in tasks}) == 20
    assert len({frozenset(task.classes) for task in tasks}) == 20
    views = [task.train._disturbance for task in tasks]
    assert {view.mean for view in views} == {-0.05, -0.025, 0.0, 0.025}
    assert {view.std for view in views} == {0.0, 0.025}
    assert len({view.channels for view in views}) >= 5
    assert any(list(task.classes) != sorted(task.classes) for task in tasks)
    paper = [task.train._disturbance for task in make(small, noise="paper")]
    assert {view.mean for view in paper} == {-0.1, -0.05, 0.0, 0.05, 0.1}
    assert {view.std for view in paper} == {0.0, 0.05, 0.1}
    plain = [task.train._disturbance for task in make(small, noise="none", swap_channels=False)]
    assert {(view.mean, view.std, view.channels) for view in plain} == {(0.0, 0.0, (0, 1, 2))}


def test_every_set_of_classes_is_used_before_any_is_used_again(small):
    for size, number in ((3, 120), (5, 252)):
        stream = make(small, classes_per_task=size, tasks=number)
        assert len({frozenset(task.classes) for task in stream}) == number
        with pytest.raises(SettingError, match=f"tasks.*{number + 1}"):
            make(small, classes_per_task=size, tasks=number + 1)


def test_batches_are_the_published_images_disturbed(small):
    data = stl.load(small)
    for task in make(small, seed=3)[:4]:
        for part, images, labels in (
            (task.train, data.train, data.train_labels),
            (task.val, data.train, data.train_labels),
            (task.test, data.test, data.test_labels),
        ):
            view = part._disturbance
            for index, row in enumerate(part._rows.tolist()):
                (found,), (label,) = part.batch(torch.tensor([index]))
                assert data.classes[labels[row]] == task.classes[label]
                noise = gaussian(torch.tensor([row]), 27648, view.key, mean=view.mean, std=view.std)
                wanted = (images[row].float() / 255 - 0.5 + noise.view(3, 96, 96)).clamp(-0.5, 0.5)
                assert torch.equal(found, wanted[list(view.channels)])


def noisy(stream):
    """The first task that has noise, not only another mean."""
    return next(task for task in stream if task.train._disturbance.std)


def test_an_image_has_the_same_noise_whenever_and_with_whatever_it_is_asked_for(small):
    task, again = noisy(make(small)), noisy(make(small))
    x, y = everything(task.train)
    assert (x.dtype, float(x.min()) >= -0.5, float(x.max()) <= 0.5) == (torch.float32, True, True)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    for indices in order.split(3):
        batch, labels = again.train.batch(indices)
        assert torch.equal(batch, x[indices])
        assert torch.equal(labels, y[indices])
    assert task.digest() == again.digest()


def test_noise_differs_by_seed_by_task_and_between_training_and_test_data(small):
    keys = [
        part._disturbance.key
        for seed in (0, 1)
        for task in make(small, seed=seed)
        for part in (task.train, task.test)
    ]
    assert len(set(keys)) == 80
    # Training and validation images are rows of one set, so one key tells them apart.
    assert all(task.train._disturbance.key == task.val._disturbance.key for task in make(small))


def test_all_seeds_have_the_same_tasks_unless_another_design_is_asked_for(small):
    def design(**options):
        tasks = make(small, **options)
        views = [task.train._disturbance for task in tasks]
        return [(task.classes, v.mean, v.std, v.channels) for task, v in zip(tasks, views, strict=True)]

    assert design(seed=0) == design(seed=1)
    assert design(design=1) != design(design=0)
    assert design(tasks=7) == design()[:7]
    rows = [tuple(task.train._rows.tolist()) for task in make(small, seed=0)]
    assert rows != [tuple(task.train._rows.tolist()) for task in make(small, seed=1)]


def test_parts_have_the_papers_sizes_with_500_images_of_each_class(ten):
    task = streams.make("cifar10-stl", root=ten)[0]
    assert task.train.labels.bincount().tolist() == [106] * 3  # LASEM, appendix A: 318 and 57
    assert task.val.labels.bincount().tolist() == [19] * 3
    assert task.test.labels.bincount().tolist() == [100] * 3
    stream = streams.make("cifar10-stl", root=ten, variant="15x5")
    assert len(stream) == 15
    assert stream[0].train.labels.bincount().tolist() == [25] * 5  # appendix E: a tenth, 1:1
    assert stream[0].val.labels.bincount().tolist() == [25] * 5
    mixed = streams.make("cifar10-stl", root=ten, variant="15x5", tasks=2, data_share=1.0, val_share=0.0)
    assert [(len(task.train), len(task.val)) for task in mixed] == [(2500, 0)] * 2


def test_no_image_is_trained_on_in_one_task_and_validated_with_in_another(ten):
    train, val = Counter(), Counter()
    for task in streams.make("cifar10-stl", root=ten, tasks=60, seed=5):
        train.update(task.train._rows.tolist())
        val.update(task.val._rows.tolist())
    assert not set(train) & set(val)
    # Each task draws anew from what is there: 18 tasks of a class, 106 of 425 and 19 of 75 images each.
    assert len(train) > 0.95 * 4250
    assert len(val) > 0.95 * 750
    assert len(set(train.values())) > 5


@given(st.integers(1, 60), st.floats(0.01, 1.0), st.floats(0.0, 0.9), st.integers(0, 3), st.integers(0, 9))
def test_a_class_is_dealt_out_in_its_shares_whatever_they_are(count, data_share, val_share, seed, number):
    labels = torch.arange(10 * count) % 10
    data = Labelled("X", tuple("abcdefghij"), torch.zeros(10 * count, 3, 1, 1), labels, *[torch.zeros(0)] * 2)
    recipe = stl._Recipe(20, 3, data_share, val_share, "none", swap_channels=False, seed=seed, design=0)
    dealt = []
    for task in (number, number + 1):
        try:
            dealt.append(recipe.deal(data, 4, task))
        except DataError:
            assert (1 - val_share) * int(data_share * count + 1e-6) < 1 + 1e-6
            return
    used = int(data_share * count + 1e-6)
    for train, val in dealt:
        assert len(train) + len(val) == used
        assert val_share * used - 1e-6 <= len(val) < val_share * used + 1
        assert len(train) >= 1
        assert set(labels[torch.cat([train, val])].tolist()) == {4}
        assert len(set(train.tolist()) | set(val.tolist())) == used
    for (train, _), (_, val) in itertools.permutations(dealt):
        assert not set(train.tolist()) & set(val.tolist())


def test_too_few_images_are_refused_by_class(small):
    stream = make(small, data_share=0.1)
    with pytest.raises(DataError, match=r"enough images of class\d to train on.*found 8.*data_share larger"):
        stream[0]


def test_cifar10_tasks_are_disturbed_cifar_images(ten):
    whole = {x.numpy().tobytes() for task in streams.make("cifar10-split", root=ten)
             for x in everything(task.test)[0]}  # fmt: skip
    for task in streams.make("cifar10-stl", root=ten, noise="none")[:2]:
        assert task.name.startswith("cifar10-stl-")
        channels = list(task.test._disturbance.channels)
        x = ((everything(task.test)[0] + 0.5) * 255).round().to(torch.uint8)
        back = torch.empty_like(x)
        back[:, channels] = x
        assert {image.numpy().tobytes() for image in back} <= whole


# Files that are not as published


def test_missing_stl_says_where_to_get_it_and_where_to_put_it(tmp_path):
    with pytest.raises(DataMissingError, match=r"stl10_binary\.tar\.gz from https.*unpack it in") as caught:
        make(tmp_path)
    assert str(tmp_path / "stl10_binary" / "train_X.bin") in str(caught.value)
    (stl10(tmp_path) / "test_y.bin").unlink()
    with pytest.raises(DataMissingError, match=r"expected [^ ]*test_y\.bin, found none"):
        make(tmp_path)


def labels_of(path, change):
    labels = bytearray(path.read_bytes())
    labels[5] = change
    return bytes(labels)


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("train_X.bin", lambda path: path.read_bytes()[:-1], r"images of 27,648 bytes, found"),
        ("test_X.bin", lambda path: b"", r"images of 27,648 bytes, found 0"),
        ("train_X.bin", lambda path: path.read_bytes()[:-27648], "a label for each of 39 images, found 40"),
        ("test_y.bin", lambda path: path.read_bytes() + b"\1", "a label for each of 20 images, found 21"),
        ("train_y.bin", lambda path: b"", "a label for each of 40 images, found 0"),
        ("train_y.bin", lambda path: labels_of(path, 0), "labels 1 to 10, found 0 to 10"),
        ("test_y.bin", lambda path: labels_of(path, 11), "labels 1 to 10, found 1 to 11"),
        ("class_names.txt", lambda path: b"one two", "10 class names, found 2"),
        ("class_names.txt", lambda path: b"a b c d e f g h i a", "10 class names, found 9"),
        ("class_names.txt", lambda path: b"\xff\xfe", "10 class names, found 1"),
    ],
)
def test_damaged_stl_files_are_refused_when_the_stream_is_made(tmp_path, name, damage, words):
    path = stl10(tmp_path) / name
    path.write_bytes(damage(path))
    with pytest.raises(DataError, match=f"{words}.*get it again"):
        make(tmp_path)


# Downloads


def archive(site_folder, members, make_member=None):
    site_folder.mkdir(exist_ok=True)
    path = site_folder / "stl.tar.gz"
    with tarfile.open(path, "w:gz") as packed:
        for member in members:
            packed.add(member, f"stl10_binary/{member.name}")
        if make_member is not None:
            packed.addfile(make_member)
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_stl_is_taken_out_of_its_archive_without_the_images_that_have_no_labels(
    tmp_path, site, offered, monkeypatch
):
    folder, address = site
    files = sorted(stl10(tmp_path / "made").iterdir())
    (tmp_path / "unlabeled_X.bin").write_bytes(b"many")
    sums = archive(folder, [*files, tmp_path / "unlabeled_X.bin"])
    monkeypatch.setattr(offered.STL10, "url", f"{address}/stl.tar.gz")
    monkeypatch.setattr(offered.STL10, "tgz_md5", sums)
    stream = make(tmp_path / "here", download=True)
    assert stream[0].digest() == make(tmp_path / "made")[0].digest()
    assert sorted(path.name for path in (tmp_path / "here/stl10_binary").iterdir()) == [f.name for f in files]
    monkeypatch.setattr(offered.STL10, "url", f"{address}/nowhere")  # what is there is not fetched again
    assert len(make(tmp_path / "here", download=True)) == 20
    with pytest.raises(DataMissingError, match="STL-10: expected to download"):
        make(tmp_path / "there", download=True)


def test_an_archive_that_is_not_the_published_one_leaves_nothing(tmp_path, site, offered, monkeypatch):
    folder, address = site
    files = sorted(stl10(tmp_path / "made").iterdir())
    monkeypatch.setattr(offered.STL10, "url", f"{address}/stl.tar.gz")
    link = tarfile.TarInfo("stl10_binary/train_y.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    directory = tarfile.TarInfo("stl10_binary/train_y.bin")
    directory.type = tarfile.DIRTYPE
    others = [path for path in files if path.name != "train_y.bin"]
    for members, extra in ((others, None), (others, link), (others, directory)):
        monkeypatch.setattr(offered.STL10, "tgz_md5", archive(folder, members, extra))
        with pytest.raises(DataMissingError, match="expected to download"):
            make(tmp_path / "here", download=True)
        assert not list((tmp_path / "here/stl10_binary").iterdir())
    monkeypatch.setattr(offered.STL10, "tgz_md5", "0" * 32)
    with pytest.raises(DataMissingError, match="expected to download"):
        make(tmp_path / "here", download=True)


@pytest.mark.real_data
def test_the_recipe_of_stl10_runs_on_cifar10(shared_data):
    stream = streams.make("cifar10-stl", root=shared_data / "datasets")
    assert len({frozenset(task.classes) for task in stream}) == 20
    for task in stream:
        assert [len(part) for part in (task.train, task.val, task.test)] == [93, 18, 150]
        x, _ = task.test.batch(torch.arange(150))
        assert (task.shape, x.dtype) == ((3, 32, 32), torch.float32)
        assert -0.5 <= float(x.min()) < -0.3 < 0.3 < float(x.max()) <= 0.5
    whole = streams.make("cifar10-stl", root=shared_data / "datasets", variant="15x5", data_share=1.0)[0]
    assert [len(part) for part in (whole.train, whole.val, whole.test)] == [375, 375, 250]
