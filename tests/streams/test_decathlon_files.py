"""The Decathlon's folders and lists, from small files in the published layout: what they say, and what is refused."""

import json
import os
import shutil

import pytest
from tests.streams.making import CATEGORIES_FROM, DECATHLON, DECATHLON_PARTS, decathlon, jpeg

from stolon import streams
from stolon.errors import DataMissingError, DataProblemsError

FEW = tuple(DECATHLON)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return decathlon(tmp_path_factory.mktemp("decathlon"))


@pytest.fixture
def broken(published, tmp_path):
    """A copy to be damaged."""
    shutil.copytree(published / "decathlon-1.0", tmp_path / "decathlon-1.0")
    return tmp_path / "decathlon-1.0"


def make(root, **options):
    return streams.make("decathlon", root=root, **{"size": 8, "only": FEW, **options})


def problems_of(root, **options):
    with pytest.raises(DataProblemsError) as caught:
        make(root, **options)
    return [(problem.kind, problem.where) for problem in caught.value.problems]


def changed(home, change, name="svhn_val"):
    """Change a list of the devkit."""
    path = home / "annotations" / f"{name}.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_names_that_classes_have_in_common_get_the_folders_name(broken):
    def change(content):
        for row in content["categories"][:2]:
            row["name"] = "seven "

    for part in DECATHLON_PARTS:
        changed(broken, change, f"svhn_{part}")
    assert make(broken.parent)[1].classes[:3] == ("seven (0001)", "seven (0002)", "svhn no. 0003")


def test_missing_sets_say_where_to_get_them_and_where_to_put_them(published, broken):
    with pytest.raises(
        DataMissingError,
        match=r"train/ and val/ of dtd, ucf101 in .*data\.tar\.gz from https://.*only=, or pass root=",
    ) as caught:
        make(published, only=["svhn", "dtd", "ucf101"])
    assert str(published / "decathlon-1.0" / "data") in str(caught.value)
    shutil.rmtree(broken / "data" / "svhn" / "val")
    with pytest.raises(DataMissingError, match="of svhn in"):
        make(broken.parent)


def test_all_problems_of_all_sets_are_told_together(broken):
    data = broken / "data"
    (data / "svhn" / "train" / "0003" / "000011.jpg").write_bytes(b"no image")
    (data / "svhn" / "notes").mkdir()
    (data / "daimlerpedcls" / "val" / "0001" / "000001.jpg").unlink()
    jpeg(data / "daimlerpedcls" / "train" / "0002" / "extra.jpg", 1)
    jpeg(data / "vgg-flowers" / "train" / "0009" / "000001.jpg", 2)
    shutil.rmtree(data / "vgg-flowers" / "val" / "0002")
    assert problems_of(broken.parent, check_first=True) == [
        ("unlisted file", "daimlerpedcls/train/0002"),
        ("missing file", "daimlerpedcls/val/0001"),
        ("unknown folder", "svhn/notes"),
        ("not an image", "svhn/train/0003/000011.jpg"),
        ("one-sample class", "vgg-flowers/train/0009"),
        ("unknown class", "vgg-flowers/train/0009"),
        ("class missing in part", "vgg-flowers/val/0002"),
        ("missing file", "vgg-flowers/val/0002"),
        ("class missing in part", "vgg-flowers/val/0009"),
    ]
    (data / "svhn" / "notes").rmdir()
    with pytest.raises(DataProblemsError, match=r"data set .*svhn: 1 problem.*\n.*not an image: train/0003"):
        list(make(broken.parent, only=["svhn"]))


def test_an_empty_class_is_told_by_its_own_folder_not_by_the_part_it_is_used_as(broken):
    shutil.rmtree(broken / "annotations")
    for file in (broken / "data" / "svhn" / "val" / "0004").iterdir():
        file.unlink()
    assert problems_of(broken.parent) == [("empty class", "svhn/val/0004")]


def test_too_few_training_images_for_validation_data_are_told(broken):
    assert problems_of(broken.parent, only=["svhn"], train_per_class=2)[:1] == [
        ("too few samples", "svhn/train/0001")
    ]
    assert len(make(broken.parent, only=["svhn"], train_per_class=2, val_share=0)[0].val) == 0


def test_without_the_devkit_class_folders_must_be_numbers_and_not_too_many(broken):
    shutil.rmtree(broken / "annotations")
    for part in DECATHLON_PARTS:
        for number, name in enumerate(("person", "0003")):
            for file in range(3):
                jpeg(
                    broken / "data" / "daimlerpedcls" / part / name / f"{file}.jpg",
                    8000 + 100 * len(part) + 10 * number + file,
                )
    found = problems_of(broken.parent)
    assert ("unknown class", "daimlerpedcls/person") in found
    assert ("too many classes", "daimlerpedcls") in found
    assert len(found) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), "expected a list of images, found none"),
        (lambda c: c.update(categories={}), "expected a list of categories, found dict"),
        (lambda c: c.update(annotations=[]), "expected a list of annotations, found list"),
        (lambda c: c["images"].append(7), "id and file_name in each of images, found row 20 without"),
        (lambda c: c["images"][3].update(file_name=5), "file_name in each of images, found row 3 without"),
        (lambda c: c["images"][3].update(id=1.5), "id and file_name in each of images, found row 3 without"),
        (lambda c: c["categories"][1].pop("name"), "id and name in each of categories, found row 1 without"),
        (lambda c: c["categories"].append(c["categories"][0]), "expected categories of different id"),
        (lambda c: c["annotations"].pop(), "one annotation for each of 20 images, found 19 of 19 images"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "found 21 of 20 images"),
        (lambda c: c["annotations"][0].update(image_id=3), "found 20 of 20 images"),
        (
            lambda c: c["annotations"][0].update(category_id=77),
            "a category of the list for every image, found '77'",
        ),
        (lambda c: c["images"][0].update(file_name=c["images"][1]["file_name"]), "expected each file once"),
        (
            lambda c: c["images"][0].update(file_name="x.jpg"),
            "such as data/svhn/val/0001/000001.jpg, found 'x.jpg'",
        ),
        (lambda c: c["images"][0].update(file_name="data/dtd/val/0001/1.jpg"), "such as data/svhn/val/0001"),
        (
            lambda c: c["images"][0].update(file_name="data/svhn/train/0001/1.jpg"),
            "such as data/svhn/val/0001",
        ),
    ],
)
def test_a_list_of_the_devkit_that_is_not_as_published_is_refused(broken, change, words):
    changed(broken, change)
    with pytest.raises(
        DataProblemsError, match=r"broken annotations: svhn/svhn_val\.json: .*get it again"
    ) as caught:
        make(broken.parent)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff", b"{", b"[" * 100_000, b"[]", b"null", b"9" * 5000])
def test_a_list_that_is_no_json_is_refused(broken, content):
    (broken / "annotations" / "svhn_val.json").write_bytes(content)
    assert problems_of(broken.parent) == [("broken annotations", "svhn/svhn_val.json")]


def test_a_list_that_is_far_too_large_or_cannot_be_read_is_refused(broken):
    path = broken / "annotations" / "svhn_val.json"
    with path.open("wb") as file:
        file.truncate(2**26 + 1)
    with pytest.raises(DataProblemsError, match="expected at most 67,108,864 bytes, found more"):
        make(broken.parent)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataProblemsError, match="expected a file, found something else"):
        make(broken.parent)


def test_labels_that_differ_from_the_folders_are_refused(broken):
    def swap(content):
        first, second = content["annotations"][0], content["annotations"][2]  # of two classes
        first["category_id"], second["category_id"] = second["category_id"], first["category_id"]

    changed(broken, swap)
    assert {kind for kind, _ in problems_of(broken.parent)} == {"label differs"}


def test_two_folders_of_one_category_are_refused(broken):
    def merge(content):
        for row in content["annotations"]:
            row["category_id"] = max(row["category_id"], CATEGORIES_FROM + 2)

    for part in DECATHLON_PARTS:
        changed(broken, merge, f"svhn_{part}")
    with pytest.raises(
        DataProblemsError, match="svhn/0002: expected a category of its own, found that of 0001"
    ):
        make(broken.parent)


def test_a_class_name_that_cannot_be_shown_is_refused(broken):
    changed(broken, lambda content: content["categories"][0].update(name="a\nb"), "svhn_train")
    assert problems_of(broken.parent) == [("name refused", "svhn/0001")]
