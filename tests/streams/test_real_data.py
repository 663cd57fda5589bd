"""The sets of shared/data, as they are."""

import pytest
import torch

from stolon import streams
from stolon.streams import folders

pytestmark = pytest.mark.real_data

FOLDERS = (
    "asl_hands", "brain_mri", "caltech101", "chars74k", "cifar10", "dtd10", "eurosat", "fruits360", "gtsrb",
    "omniglot", "pacs_art", "pacs_cartoon", "pacs_sketch", "plant_seedlings", "potato_leaf", "scene15",
    "tiny_imagenet", "trashnet",
)  # fmt: skip


def test_all_folders_are_one_stream_without_problems(shared_data):
    stream = streams.make("folders", root=shared_data / "datasets", size=32)
    assert tuple(task.name for task in stream) == FOLDERS
    assert sum(len(part) for task in stream for part in (task.train, task.val, task.test)) == 23730
    assert len(stream[FOLDERS.index("gtsrb")].classes) == 43
    assert all(task.train.is_in_memory for task in stream)


def test_one_folder_reads_as_its_readme_says(shared_data):
    task = folders.read_task(shared_data / "datasets" / "trashnet", size=64)
    assert task.classes == ("cardboard", "glass", "metal", "paper", "plastic", "trash")
    assert (len(task.train) + len(task.val), len(task.test)) == (540, 240)


def test_sets_in_idx_form_read_as_their_readme_says(shared_data):
    stream = streams.make("idx", root=shared_data / "datasets")
    counts = {
        task.name: (len(task.train) + len(task.val), len(task.test), len(task.classes)) for task in stream
    }
    assert counts == {
        "ArabicCharacters": (13440, 3360, 28),
        "FashionMNIST": (15000, 10000, 10),
        "KannadaMNIST": (8000, 2000, 10),
        "MNIST": (60000, 10000, 10),
        "NotMNIST": (8000, 2000, 10),
    }


def test_mnist_has_its_usual_mean_and_deviation(shared_data):
    task = streams.make("mnist", root=shared_data / "datasets", normalize=True)[0]
    x, _ = task.train.batch(torch.arange(len(task.train)))
    assert abs(float(x.mean())) < 0.01
    assert abs(float(x.std()) - 1) < 0.01


def test_cifar_reads_in_the_forms_that_are_there(shared_data):
    root = shared_data / "datasets"
    task = streams.make("cifar100-split", root=root, order="lasem", train_per_class=20, val_share=0.15)[0]
    assert task.classes[:3] == ("beaver", "aquarium_fish", "orchid")
    assert (len(task.train), len(task.val), len(task.test)) == (170, 30, 300)
    ten = streams.make("cifar10-split", root=root)
    assert [task.classes for task in ten][-1] == ("ship", "truck")
