"""Small data made on the spot, in the published file forms."""

import gzip
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
