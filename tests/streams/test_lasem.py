"""CIFAR-100 as in LASEM, from small files in the published form."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from tests.streams.making import cifar100

from stolon import streams
from stolon.errors import DataError, DataMissingError, SettingError
from stolon.streams import cifar
from stolon.streams.lasem import LASEM_20, LASEM_40
from stolon.streams.views import Scale
from stolon.tasks import Task, to_float


def everything(split):
    return split.batch(torch.arange(len(split)))


def rows_of(split):
    """Which images of the set: they are standardised by task, so their pixels do not tell."""
    return split._rows.tolist()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Ten training and ten test images of each class: groups of two, one of them validation data."""
    root = tmp_path_factory.mktemp("cifar")
    cifar100(root, per_class=10)
    return root


def make(root, **options):
    return streams.make("cifar100-lasem", root=root, **{"train_per_class": 2, **options})


def test_the_lists_use_all_classes_equally_often_in_distinct_tasks():
    for lists, times in ((cifar.LASEM, 1), (LASEM_20, 2), (LASEM_40, 4)):
        assert set(Counter(label for group in lists for label in group).values()) == {times}
        assert len({frozenset(group) for group in lists}) == len(lists)
        assert {len(set(group)) for group in lists} == {10}
    assert {frozenset(group) for group in cifar.LASEM} < {frozenset(group) for group in LASEM_20}
    assert LASEM_40[:20] == LASEM_20
    # Neighbours share half of their classes, but where the second half of the forty begins.
    shared = [len(set(a) & set(b)) for a, b in itertools.pairwise(LASEM_40)]
    assert shared == [5] * 19 + [0] + [5] * 19


def test_ten_twenty_and_forty_tasks_have_their_lists(small):
    for tasks, lists in ((10, cifar.LASEM), (3, cifar.LASEM[:3]), (20, LASEM_20), (40, LASEM_40)):
        stream = make(small, tasks=tasks)
        assert not any(isinstance(task, Task) for task in stream._tasks)  # made when asked for
        assert [task.classes for task in stream] == [tuple(f"name{c}" for c in group) for group in lists]
    for tasks in (11, 19, 21, 39):
        with pytest.raises(SettingError, match="20 or 40, or at most 10"):
            make(small, tasks=tasks)


def test_a_tasks_parts_have_their_shares_and_its_test_data_are_all(tmp_path):
    cifar100(tmp_path, per_class=100)
    task = streams.make("cifar100-lasem", root=tmp_path)[4]
    assert task.train.labels.bincount().tolist() == [17] * 10  # LASEM, table 2: 170, 30 and 1,000
    assert task.val.labels.bincount().tolist() == [3] * 10
    assert task.test.labels.bincount().tolist() == [100] * 10


def test_five_groups_share_no_image_and_together_are_all(small):
    def images(seed, **options):
        return Counter(
            row
            for task in make(small, seed=seed, **options)
            for part in (task.train, task.val)
            for row in rows_of(part)
        )

    everything_once = Counter(range(1000))
    assert sum((images(0, group=group) for group in range(5)), Counter()) == everything_once
    for first in (0, 5):  # by default the seed names the group, within its five
        assert sum((images(first + i) for i in range(5)), Counter()) == everything_once
        assert images(first + 3) == images(first, group=3)
    assert images(0) != images(5)
    assert images(-1) == images(-5, group=4)


def test_the_same_seed_and_group_give_the_same_stream(small):
    one, same, other = (make(small, seed=seed, group=2) for seed in (0, 4, 5))
    assert [task.digest() for task in one] == [task.digest() for task in same]
    assert all(a.digest() != b.digest() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("samples", ["disjoint", "released"])
def test_an_image_is_in_the_same_part_in_every_task_that_has_its_class(small, samples):
    train, val, test = Counter(), Counter(), Counter()
    for task in make(small, tasks=40, seed=1, samples=samples):
        train.update(rows_of(task.train))
        val.update(rows_of(task.val))
        test.update(rows_of(task.test))
    assert not set(train) & set(val)
    assert [len(train), len(val), len(test)] == [100, 100, 1000]
    # Each class is in four tasks, and all four have the same images of it.
    assert set(train.values()) == set(val.values()) == set(test.values()) == {4}


def test_released_groups_are_the_same_images_in_another_order(small):
    streams_ = [make(small, seed=seed, samples="released") for seed in range(5)]
    for tasks in zip(*streams_, strict=True):
        for part in ("train", "val"):
            orders = [rows_of(getattr(task, part)) for task in tasks]
            assert len({frozenset(order) for order in orders}) == 1
            assert len({tuple(order) for order in orders}) == 5
    # Nothing of this needs room for five groups.
    assert len(make(small, train_per_class=10, samples="released")[0].train) == 80


def raw(folder, split, name):
    records = np.fromfile(folder / "cifar-100-binary" / f"{name}.bin", np.uint8).reshape(-1, 3074)
    return torch.from_numpy(records[rows_of(split), 2:].reshape(-1, 3, 32, 32)).double() / 255


@pytest.mark.parametrize("statistics", ["task", "released"])
def test_data_are_standardised_by_their_tasks_own_figures(small, statistics):
    task = make(small, statistics=statistics)[1]
    train = raw(small, task.train, "train")
    for part, name in ((task.train, "train"), (task.val, "train"), (task.test, "test")):
        images = raw(small, part, name)
        measured = images if statistics == "released" else train
        mean, std = (
            measured.mean((0, 2, 3), keepdim=True),
            measured.std((0, 2, 3), correction=0, keepdim=True),
        )
        found, _ = everything(part)
        assert found.dtype == torch.float32
        assert torch.allclose(found.double(), (images - mean) / std, atol=1e-5)


def test_a_channel_without_contrast_stays_finite():
    images = torch.full((3, 2, 4, 5), 7, dtype=torch.uint8)
    images[0, 1, 0, 0] = 255
    scale = Scale.measured(images)
    values = to_float(images[:, 1]).double()
    assert scale.std == pytest.approx((60**-0.5, max(60**-0.5, float(values.std(correction=0)))))
    assert float(scale(images)[:, 0].abs().max()) < 1e-6
    with pytest.raises(DataError, match="found none"):
        Scale.measured(images[:0])


def test_no_validation_data_can_be_asked_for(small):
    for statistics in ("task", "released"):
        task = make(small, val_share=0.0, statistics=statistics)[0]
        assert (len(task.train), len(task.val)) == (20, 0)


def test_too_few_images_for_five_groups_are_refused_by_class(small):
    with pytest.raises(DataError, match=r"at least 15 training images.*3 for each of 5 groups.*found 10 of"):
        make(small, train_per_class=3)


def test_missing_and_damaged_files_are_refused_when_the_stream_is_made(tmp_path):
    with pytest.raises(DataMissingError, match=r"CIFAR-100.*cifar-100-binary\.tar\.gz"):
        make(tmp_path)
    folder = cifar100(tmp_path)
    whole = (folder / "train.bin").read_bytes()
    for data, words in ((whole[:-1], "records of 3074"), (b"\0\x64" + whole[2:], "labels 0 to 99")):
        (folder / "train.bin").write_bytes(data)
        with pytest.raises(DataError, match=words):
            make(tmp_path)


@pytest.mark.real_data
def test_lasems_cifar100_has_the_papers_counts_and_five_disjoint_groups(shared_data):
    root = shared_data / "datasets"
    used = Counter()
    for seed in range(5):
        for task in streams.make("cifar100-lasem", root=root, seed=seed):
            # Table 2 has 1,000 test images; the subset has 30 of each class.
            assert (len(task.train), len(task.val), len(task.test)) == (170, 30, 300)
            used.update([*task.train._rows.tolist(), *task.val._rows.tolist()])
    assert used == Counter(range(10000))
    forty = streams.make("cifar100-lasem", root=root, tasks=40)
    assert (len(forty), forty[39].classes[:3]) == (40, ("beaver", "clock", "orchid"))
    assert torch.equal(forty[0].train._rows, streams.make("cifar100-lasem", root=root)[0].train._rows)


@pytest.mark.real_data
def test_the_classes_of_a_task_of_lasem_are_of_ten_superclasses(shared_data):
    with np.load(shared_data / "datasets/CIFAR100/cifar100_subset.npz", allow_pickle=False) as file:
        coarse = dict(zip(file["train_fine"].tolist(), file["train_coarse"].tolist(), strict=True))
    # One slip in copying the lists would put two classes of a superclass into a task, most likely.
    for group in (*cifar.LASEM, *LASEM_40):
        assert len({coarse[label] for label in group}) == 10
