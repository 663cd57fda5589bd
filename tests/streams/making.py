"""Small data made on the spot, in the published file forms."""

import gzip
import json
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, *, size=(12, 10), mode="RGB", format="PNG", **options) -> bytes:  # noqa: A002
    """A file of random pixels that differ by number."""
    noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(noise, "RGBA" if mode == "RGBA" else None).convert(mode).save(file, format, **options)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A black PNG of one bit per pixel: very few bytes, very many pixels."""
    file = BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


def folder(root: Path, counts: dict[str, int], *, start: int = 0) -> Path:
    """Images in folders: {"train/cat": 3, ...}; all of them differ."""
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (root / name / f"{index:03}.png").write_bytes(picture(number))
            number += 1
    return root


def whole_folder(root: Path, classes=("cat", "dog"), *, start: int = 0) -> Path:
    parts = {"train": 6, "val": 2, "test": 3}
    return folder(root, {f"{p}/{c}": n for p, n in parts.items() for c in classes}, start=start)


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def idx_set(root: Path, name: str, *, classes=4, per_class=10, side=6, seed=0, pack=True) -> Path:
    random = np.random.default_rng(seed)
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", per_class), ("t10k", 3)):
        labels = random.permutation(np.repeat(np.arange(classes), count))
        images = random.integers(0, 256, (len(labels), side, side))
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            path = raw / f"{part}-{kind}-ubyte"
            if pack:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(data))
            else:
                path.write_bytes(data)
    return raw


def cifar10(root: Path, *, per_class=4) -> Path:
    folder_ = root / "cifar-10-batches-bin"
    folder_.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        labels = random.permutation(np.repeat(np.arange(10), per_class)).astype(np.uint8)
        pixels = random.integers(0, 256, (len(labels), 3072), dtype=np.uint8)
        (folder_ / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], pixels], 1).tobytes())
    return folder_


def cifar100(root: Path, *, per_class=4) -> Path:
    folder_ = root / "cifar-100-binary"
    folder_.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("train", "test"):
        fine = random.permutation(np.repeat(np.arange(100), per_class)).astype(np.uint8)
        coarse = (fine % 20).astype(np.uint8)
        pixels = random.integers(0, 256, (len(fine), 3072), dtype=np.uint8)
        (folder_ / f"{name}.bin").write_bytes(
            np.concatenate([coarse[:, None], fine[:, None], pixels], 1).tobytes()
        )
    (folder_ / "fine_label_names.txt").write_text("".join(f"name{i}\n" for i in range(100)) + "\n")
    return folder_


def stl10(root: Path, *, per_class=4, test_per_class=2) -> Path:
    folder_ = root / "stl10_binary"
    folder_.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, count in (("train", per_class), ("test", test_per_class)):
        labels = random.permutation(np.repeat(np.arange(10), count)).astype(np.uint8)
        (folder_ / f"{name}_X.bin").write_bytes(random.bytes(len(labels) * 3 * 96 * 96))
        (folder_ / f"{name}_y.bin").write_bytes((labels + 1).tobytes())
    (folder_ / "class_names.txt").write_text("".join(f"class{i}\n" for i in range(10)))
    return folder_


def domain(root: Path, classes, *, count=5, start=0) -> Path:
    """A domain as Office-Home has it: CLASS/00001.jpg and so on; all images differ."""
    number = start
    for name in classes:
        (root / name).mkdir(parents=True)
        for index in range(1, count + 1):
            (root / name / f"{index:05}.jpg").write_bytes(picture(number, size=(16, 12), format="JPEG"))
            number += 1
    return root


def jpeg(path: Path, number: int) -> None:
    """A JPEG, in folders made as needed; it differs by number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number, size=(16, 12), format="JPEG"))


DECATHLON = {"daimlerpedcls": 2, "svhn": 10, "vgg-flowers": 3}
"""Some data sets of the Visual Domain Decathlon, and how many classes each has here."""

DECATHLON_PARTS = {"train": 5, "val": 2}
"""The parts whose labels are published, and how many images of each class each has here."""

CATEGORIES_FROM = 30_000_000  # categories have numbers of their own, far from 0


def decathlon(root: Path) -> Path:
    """Three of the Decathlon's data sets, unpacked as residual_adapters' script does it, with the devkit."""
    home = root / "decathlon-1.0"
    for number, name in enumerate(DECATHLON):
        _decathlon_set(home / "data", name, 1000 * number)
        for part in DECATHLON_PARTS:
            _decathlon_list(home, name, part)
    return root


def _decathlon_set(home, name, number):
    """A data set as unpacked: class folders in train and val, none in test, whose labels are nobody's."""
    for part, count in DECATHLON_PARTS.items():
        file = 0
        for label in range(1, DECATHLON[name] + 1):
            for _ in range(count):
                file += 1
                number += 1
                jpeg(home / name / part / f"{label:04}" / f"{file:06}.jpg", number)
    jpeg(home / name / "test" / "000001.jpg", number + 1)


def _decathlon_list(home, name, part):
    """A list of the devkit: COCO's form, in an order that is not that of the files."""
    folders = sorted((home / "data" / name / part).iterdir())
    files = [file for place in folders for file in sorted(place.iterdir())]
    ids = {file: CATEGORIES_FROM + number for number, file in enumerate(files, 1)}
    labels = {place.name: CATEGORIES_FROM + number for number, place in enumerate(folders, 1)}
    content = {
        "info": {"description": name, "year": 2017},
        "licenses": [{"id": 1, "name": "none"}],
        "images": [
            {
                "id": ids[file],
                "file_name": f"data/{name}/{part}/{file.parent.name}/{file.name}",
                "width": 16,
                "height": 12,
            }
            for file in reversed(files)
        ],
        "annotations": [
            {"id": number, "image_id": ids[file], "category_id": labels[file.parent.name]}
            for number, file in enumerate(files)
        ],
        "categories": [{"id": label, "name": f"{name} no. {own}"} for own, label in labels.items()],
    }
    path = home / "annotations" / f"{name}_{part}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
