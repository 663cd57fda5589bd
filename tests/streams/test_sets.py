"""MNIST's file form, CIFAR and the digits, from tiny files in the published forms."""

import gzip
import hashlib
import zipfile

import numpy as np
import pytest
import torch
from tests.streams.making import cifar10, cifar100, idx_bytes, idx_set, whole_folder

from stolon import streams
from stolon.errors import DataError, DataMissingError, SettingError
from stolon.streams import cifar, idx
from stolon.tasks import to_float


def everything(split):
    return split.batch(torch.arange(len(split)))


def rows_of(split):
    return {x.numpy().tobytes() for x in everything(split)[0]}


# MNIST's file form


@pytest.mark.parametrize("pack", [True, False])
def test_idx_files_are_read_packed_and_unpacked(tmp_path, pack):
    array = np.random.default_rng(0).integers(0, 256, (4, 3, 2), dtype=np.uint8)
    path = tmp_path / ("a.gz" if pack else "a")
    path.write_bytes(gzip.compress(idx_bytes(array)) if pack else idx_bytes(array))
    assert np.array_equal(idx.read(path, axes=3).numpy(), array)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "found b''"),
        (b"\0\0\x08\x03\0\0", "found"),
        (b"\0\0\x0d\x03" + bytes(12), "found"),
        (b"\0\0\x08\x01" + bytes(12), "found"),
        (idx_bytes(np.zeros((4, 3, 2)))[:-1], "found 23"),
        (idx_bytes(np.zeros((4, 3, 2))) + b"x", "found more"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected at most"),
    ],
)
@pytest.mark.parametrize("pack", [True, False])
def test_damaged_idx_files_are_refused(tmp_path, data, found, pack):
    path = tmp_path / ("a.gz" if pack else "a")
    path.write_bytes(gzip.compress(data) if pack else data)
    with pytest.raises(DataError, match=found):
        idx.read(path, axes=3)


def test_damaged_gzip_files_are_refused(tmp_path):
    packed = gzip.compress(idx_bytes(np.random.default_rng(0).integers(0, 256, (40, 3, 2))))
    for data in (packed[:-9], packed[:30], b"not gzip", packed[:40] + b"\xff\xff" + packed[42:]):
        (tmp_path / "a.gz").write_bytes(data)
        with pytest.raises(DataError, match="get it again"):
            idx.read(tmp_path / "a.gz", axes=3)


def test_a_whole_set_is_one_task_with_a_stratified_validation_part(tmp_path):
    idx_set(tmp_path, "MNIST", classes=4, per_class=20)
    (task,) = streams.make("mnist", root=tmp_path)
    assert (task.name, task.classes, task.shape) == ("MNIST", ("0", "1", "2", "3"), (1, 6, 6))
    assert task.train.labels.bincount().tolist() == [18] * 4
    assert task.val.labels.bincount().tolist() == [2] * 4
    assert len(task.test) == 12
    assert everything(task.train)[0].dtype == torch.uint8
    assert not rows_of(task.train) & rows_of(task.val)


def test_every_set_under_the_root_is_a_task_and_sizes_can_be_made_equal(tmp_path):
    idx_set(tmp_path, "MNIST", seed=1)
    idx_set(tmp_path, "KannadaMNIST", seed=2, side=9, pack=False)
    stream = streams.make("idx", root=tmp_path)
    assert [(task.name, task.shape) for task in stream] == [("KannadaMNIST", (1, 9, 9)), ("MNIST", (1, 6, 6))]
    equal = streams.make("idx", root=tmp_path, size=6, datasets=["MNIST", "KannadaMNIST"])
    assert [(task.name, task.shape) for task in equal] == [("MNIST", (1, 6, 6)), ("KannadaMNIST", (1, 6, 6))]
    assert equal[0].digest() == stream[1].digest()


def test_split_tasks_have_their_own_classes_and_one_part_per_image(tmp_path):
    idx_set(tmp_path, "MNIST", classes=6, per_class=10)
    stream = streams.make("mnist-split", root=tmp_path)
    assert [task.classes for task in stream] == [("0", "1"), ("2", "3"), ("4", "5")]
    whole = streams.make("mnist", root=tmp_path)[0]
    assert set.union(*(rows_of(task.val) for task in stream)) == rows_of(whole.val)
    other = streams.make("mnist-split", root=tmp_path, tasks=2, order="seeded", seed=3)
    assert sorted(name for task in other for name in task.classes) == list("012345")


def test_permuted_tasks_hold_the_same_images_in_other_orders(tmp_path):
    idx_set(tmp_path, "MNIST")
    stream = streams.make("mnist-permuted", root=tmp_path, tasks=3)
    plain, one, two = (everything(task.val)[0] for task in stream)
    assert torch.equal(plain, everything(streams.make("mnist", root=tmp_path)[0].val)[0])
    for other in (one, two):
        assert not torch.equal(other, plain)
        assert torch.equal(other.flatten(1).sort(1).values, plain.flatten(1).sort(1).values)
    assert not torch.equal(one, two)
    assert stream[1].train._images is stream[2].train._images
    changed = streams.make("mnist-permuted", root=tmp_path, tasks=1, first_plain=False)
    assert not torch.equal(everything(changed[0].val)[0], plain)


def test_rotated_tasks_are_floats_turned_a_step_further_each(tmp_path):
    idx_set(tmp_path, "MNIST")
    stream = streams.make("mnist-rotated", root=tmp_path, tasks=3, step_degrees=90.0)
    upright = to_float(everything(streams.make("mnist", root=tmp_path)[0].test)[0])
    for turns, task in enumerate(stream):
        assert torch.equal(everything(task.test)[0], torch.rot90(upright, turns, (2, 3)))


def test_normalising_uses_the_usual_figures(tmp_path):
    idx_set(tmp_path, "MNIST")
    raw, standard = (
        everything(streams.make("mnist", root=tmp_path, normalize=normalize)[0].train)[0]
        for normalize in (False, True)
    )
    assert torch.allclose(standard, (raw.float() / 255 - 0.1307) / 0.3081)


def test_fewer_images_per_class_can_be_asked_for(tmp_path):
    idx_set(tmp_path, "MNIST", per_class=30)
    task = streams.make("mnist", root=tmp_path, train_per_class=10)[0]
    assert task.train.labels.bincount().tolist() == [9] * 4
    assert task.val.labels.bincount().tolist() == [1] * 4


def test_missing_sets_say_where_to_get_them_and_where_to_put_them(tmp_path):
    with pytest.raises(DataMissingError, match=r"download=True.*put them there") as caught:
        streams.make("mnist-split", root=tmp_path, dataset="FashionMNIST")
    assert str(tmp_path / "FashionMNIST" / "raw") in str(caught.value)
    (idx_set(tmp_path, "MNIST") / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataMissingError, match="expected t10k-labels"):
        streams.make("mnist", root=tmp_path)
    with pytest.raises(DataMissingError, match="NAME/raw"):
        streams.make("idx", root=tmp_path / "none")


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    raw = idx_set(tmp_path, "MNIST")
    labels = raw / "train-labels-idx1-ubyte.gz"
    for wrong in (np.zeros(39), np.arange(40) % 3 + 1, np.arange(40) % 3):
        labels.write_bytes(gzip.compress(idx_bytes(wrong)))
        with pytest.raises(DataError, match="expected"):
            streams.make("mnist-split", root=tmp_path)


def test_emnist_is_turned_upright_and_its_letters_begin_with_a(tmp_path):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.arange(26 * 4 * 9, dtype=np.uint8).reshape(26 * 4, 3, 3)
    labels = np.arange(26 * 4) % 26 + 1
    for part in ("train", "test"):
        (raw / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (raw / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    (task,) = streams.make("mnist", root=tmp_path, dataset="EMNIST-letters")
    assert task.classes[0] == "A"
    assert np.array_equal(everything(task.test)[0][0, 0].numpy(), images[0].T)


def test_downloads_come_from_torchvisions_addresses_with_its_checksums(tmp_path, site, offered, monkeypatch):
    folder, address = site
    files = sorted(idx_set(folder, "MNIST").iterdir())
    sums = [(path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in files]
    monkeypatch.setattr(offered.MNIST, "resources", sums)
    monkeypatch.setattr(offered.MNIST, "mirrors", [f"{address}/nowhere/", f"{address}/MNIST/raw/"])
    stream = streams.make("mnist-split", root=tmp_path / "here", download=True)
    assert stream[0].digest() == streams.make("mnist-split", root=folder)[0].digest()
    monkeypatch.setattr(offered.MNIST, "resources", [(name, "0" * 32) for name, _ in sums])
    with pytest.raises(DataMissingError, match="expected to download"):
        streams.make("mnist-split", root=tmp_path / "there", download=True)
    assert not list((tmp_path / "there/MNIST/raw").iterdir())


def test_a_part_of_emnist_is_taken_out_of_its_archive(tmp_path, site, offered, monkeypatch):
    folder, address = site
    folder.mkdir()
    images, labels = np.zeros((26 * 4, 3, 3)), np.arange(26 * 4) % 26 + 1
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for part in ("letters-train", "letters-test"):
            for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
                archive.writestr(f"gzip/emnist-{part}-{kind}-ubyte.gz", gzip.compress(idx_bytes(array)))
    monkeypatch.setattr(offered.EMNIST, "url", f"{address}/gzip.zip")
    monkeypatch.setattr(offered.EMNIST, "md5", hashlib.md5((folder / "gzip.zip").read_bytes()).hexdigest())
    (task,) = streams.make("mnist", root=tmp_path, dataset="EMNIST-letters", download=True)
    assert len(task.classes) == 26
    assert len(list((tmp_path / "EMNIST/raw").iterdir())) == 4
    with pytest.raises(DataMissingError, match="expected to download"):
        streams.make("mnist", root=tmp_path, dataset="EMNIST-digits", download=True)


def test_sets_that_nobody_offers_cannot_be_downloaded(tmp_path):
    with pytest.raises(SettingError, match="download: expected one of MNIST"):
        streams.make("mnist", root=tmp_path, dataset="NotMNIST", download=True)


# CIFAR


def test_cifar10_is_read_from_its_binary_version(tmp_path):
    folder = cifar10(tmp_path)
    stream = streams.make("cifar10-split", root=tmp_path, val_share=0.2)
    assert len(stream) == 5
    assert stream[0].classes == ("airplane", "automobile")
    assert [len(part) for part in (stream[0].train, stream[0].val, stream[0].test)] == [32, 8, 8]
    record = np.fromfile(folder / "test_batch.bin", np.uint8).reshape(-1, 3073)
    first = record[np.isin(record[:, 0], [0, 1])][0]
    x, y = stream[0].test.batch(torch.tensor([0]))
    assert int(y) == first[0]
    assert np.array_equal(x[0].numpy(), first[1:].reshape(3, 32, 32))


def test_cifar100_is_read_from_its_binary_version_by_fine_label(tmp_path):
    folder = cifar100(tmp_path)
    stream = streams.make("cifar100-split", root=tmp_path)
    assert len(stream) == 10
    assert stream[3].classes == tuple(f"name{i}" for i in range(30, 40))
    record = np.fromfile(folder / "test.bin", np.uint8).reshape(-1, 3074)
    first = record[record[:, 1] < 10][0]
    x, y = stream[0].test.batch(torch.tensor([0]))
    assert int(y) == first[1]
    assert np.array_equal(x[0].numpy(), first[2:].reshape(3, 32, 32))


def test_the_tasks_of_lasem_have_its_classes_in_its_order(tmp_path):
    cifar100(tmp_path, per_class=20)
    stream = streams.make("cifar100-split", root=tmp_path, order="lasem", train_per_class=20, val_share=0.15)
    assert stream[0].classes == tuple(f"name{i}" for i in (4, 1, 54, 9, 0, 5, 6, 3, 12, 8))
    assert sorted(label for group in cifar.LASEM for label in group) == list(range(100))
    assert (len(stream[0].train), len(stream[0].val)) == (170, 30)  # Rostami et al., table 2


def test_cifar_arrays_are_read_without_unpickling(tmp_path):
    (tmp_path / "CIFAR100").mkdir()
    path = tmp_path / "CIFAR100" / "subset.npz"
    random = np.random.default_rng(0)
    arrays = {
        "train_images": random.integers(0, 256, (300, 32, 32, 3), dtype=np.uint8),
        "train_fine": (np.arange(300) % 100).astype(np.uint8),
        "test_images": random.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8),
        "test_fine": np.arange(100, dtype=np.uint8),
        "fine_names": np.array([f"n{i}" for i in range(100)]),
    }
    np.savez(path, **arrays)
    task = streams.make("cifar100-split", root=tmp_path)[0]
    x, _ = task.test.batch(torch.tensor([3]))
    assert np.array_equal(x[0].permute(1, 2, 0).numpy(), arrays["test_images"][3])
    whole = path.read_bytes()
    for change in (
        {"fine_names": np.array([{}] * 100)},
        {"train_fine": np.arange(300)},
        {"test_fine": np.zeros(3)},
    ):
        np.savez(path, **{**arrays, **change})
        with pytest.raises(DataError, match="expected"):
            streams.make("cifar100-split", root=tmp_path)
    np.savez(path, **{key: value for key, value in arrays.items() if key != "test_fine"})
    with pytest.raises(DataError, match="without test_fine"):
        streams.make("cifar100-split", root=tmp_path)
    for data in (b"", whole[:1000], whole[:5000] + b"\0" * 9 + whole[5009:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"whole \.npz"):
            streams.make("cifar100-split", root=tmp_path)


def test_damaged_cifar_files_are_refused(tmp_path):
    folder = cifar10(tmp_path)
    whole = (folder / "test_batch.bin").read_bytes()
    for data, words in (
        (whole[:-1], "records of 3073"),
        (b"", "records"),
        (b"\x0a" + whole[1:], "labels 0 to 9"),
    ):
        (folder / "test_batch.bin").write_bytes(data)
        with pytest.raises(DataError, match=words):
            streams.make("cifar10-split", root=tmp_path)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataMissingError, match="data_batch_3"):
        streams.make("cifar10-split", root=tmp_path)
    (cifar100(tmp_path) / "fine_label_names.txt").write_text("one")
    with pytest.raises(DataError, match="100 class names"):
        streams.make("cifar100-split", root=tmp_path)


def test_missing_cifar_says_to_get_the_binary_version(tmp_path):
    for name in ("cifar10-split", "cifar100-split"):
        with pytest.raises(DataMissingError, match=r"binary\.tar\.gz .*pickle.*unpack it in"):
            streams.make(name, root=tmp_path)


def test_cifar10_as_an_image_folder_must_have_its_classes(tmp_path):
    whole_folder(tmp_path / "cifar10", cifar._CLASSES_10)
    stream = streams.make("cifar10-split", root=tmp_path)
    assert (len(stream), stream[0].shape) == (5, (3, 32, 32))
    whole_folder(tmp_path / "other" / "cifar10")
    with pytest.raises(DataError, match="expected the classes airplane"):
        streams.make("cifar10-split", root=tmp_path / "other")


# Digits


@pytest.mark.parametrize("name", ["digits-split", "digits-rotated", "digits-permuted", "digits-mixed"])
def test_digits_are_floats_divided_the_same_way_in_every_task(name):
    stream = streams.make(name, seed=1)
    assert len(stream) >= 5
    assert len({task.name for task in stream}) == len(stream)
    counts = [{}, {}, {}]
    for task in stream:
        for number, part in enumerate((task.train, task.val, task.test)):
            x, y = everything(part)
            assert x.dtype == torch.float32
            assert 0 <= x.min() <= x.max() <= 1 + 1e-6
            for label, class_name in enumerate(task.classes):
                counts[number].setdefault(class_name, set()).add(int((y == label).sum()))
    assert all(len(sizes) == 1 for part in counts for sizes in part.values())
    assert [task.digest() for task in streams.make(name, seed=1)] == [task.digest() for task in stream]


def test_digits_can_be_restricted_to_some_classes():
    mixed = streams.make("digits-mixed", classes=[5, 6, 7, 8, 9])
    assert [task.classes for task in mixed][:3] == [("5", "6", "7"), ("8", "9"), ("5", "6", "7", "8", "9")]
    whole = {row for task in streams.make("digits-split") for row in rows_of(task.test)}
    assert rows_of(mixed[0].test) < whole


def test_tasks_of_the_mixed_digits_are_unlike_each_other():
    tasks = list(streams.make("digits-mixed"))
    assert len({task.test.digest() for task in tasks}) == len(tasks) == 6
    plain = {row for task in tasks[:2] for row in rows_of(task.test)}
    turned, inverted = everything(tasks[2].test)[0], everything(tasks[3].test)[0]
    assert {x.numpy().tobytes() for x in torch.rot90(turned, -1, (2, 3)).contiguous()} == plain
    assert {x.numpy().tobytes() for x in 1 - inverted} == plain


def test_normalised_digits_have_mean_zero_and_deviation_one():
    (task,) = streams.make("digits-permuted", tasks=1, normalize=True, val_share=0.0, test_share=0.0)
    x, _ = everything(task.train)
    assert abs(float(x.mean())) < 1e-3
    assert abs(float(x.std()) - 1) < 1e-3
