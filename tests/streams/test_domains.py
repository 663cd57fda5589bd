"""Office-Home and PACS, from small files in the published layouts."""

import shutil
from collections import Counter

import pytest
import torch
from tests.streams.making import domain, picture

from stolon import pictures, streams
from stolon.errors import DataError, DataMissingError, DataProblemsError, SettingError
from stolon.streams import images
from stolon.streams.domains import OFFICE_HOME, OFFICE_HOME_GROUPS
from stolon.tasks import Task

PACS = ("dog", "elephant", "giraffe", "guitar", "horse", "house")


def files_of(task):
    return [[str(path) for path in part.paths] for part in (task.train, task.val, task.test)]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """Two domains of 65 classes with five images each: two to train on, one to validate and two to test with."""
    root = tmp_path_factory.mktemp("office")
    home = root / "OfficeHomeDataset_10072016"
    domain(home / "Product", OFFICE_HOME)
    domain(home / "Real World", OFFICE_HOME, start=1000)
    (home / "ImageInfo.csv").write_text("beside the domains, as published")
    return root


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    """Three domains of six classes, ten images each, in parts as in shared/data."""
    root = tmp_path_factory.mktemp("pacs")
    for number, name in enumerate(("art", "cartoon", "sketch")):
        domain(root / f"pacs_{name}" / "train", PACS, count=7, start=1000 * number)
        domain(root / f"pacs_{name}" / "test", PACS, count=3, start=1000 * number + 500)
    return root


def make(root, **options):
    return streams.make("office-home-lasem", root=root, **{"size": 8, **options})


def make_pacs(root, **options):
    return streams.make("pacs-office-home", root=root, **{"size": 8, **options})


def test_the_order_of_classes_is_that_of_small_letters():
    assert list(OFFICE_HOME) == sorted(OFFICE_HOME, key=str.lower) != sorted(OFFICE_HOME)
    assert sorted(label for group in OFFICE_HOME_GROUPS for label in group) == list(range(65))


def test_ten_tasks_of_13_classes_are_the_same_groups_in_two_domains(office):
    stream = make(office)
    assert not any(isinstance(task, Task) for task in stream._tasks)  # made when asked for
    tasks = list(stream)
    assert [task.name for task in tasks][4:6] == [
        "office-home-lasem-product-4",
        "office-home-lasem-real-world-0",
    ]
    assert [task.classes for task in tasks[:5]] == [task.classes for task in tasks[5:]]
    # gen_data.py: 63, 54, 55, 59 and 13 of its list.
    assert tasks[0].classes[:4] == ("TV", "Sneakers", "Soda", "Telephone")
    assert tasks[0].classes[-1] == "Couch"
    for task in tasks:
        assert (task.shape, len(task.classes)) == ((3, 8, 8), 13)
        assert [part.labels.bincount().tolist() for part in (task.train, task.val, task.test)] == [
            [2] * 13, [1] * 13, [2] * 13
        ]  # fmt: skip


def test_labels_and_pixels_are_those_of_their_files(office):
    task = make(office)[7]
    for part in (task.train, task.val, task.test):
        x, y = part.batch(torch.arange(len(part)))
        assert x.dtype == torch.uint8
        for image, label, path in zip(x, y.tolist(), part.paths, strict=True):
            assert path.parent.name == task.classes[label]
            assert path.parent.parent.name == "Real World"
            whole = pictures.square(path.read_bytes(), 8, squeeze=True)
            assert torch.equal(image, torch.from_numpy(whole))


def test_images_are_decoded_once_and_kept(office, monkeypatch):
    stream = make(office)
    monkeypatch.setattr(images, "read_many", None)
    for task in stream:
        assert task.train.is_in_memory
        task.train.batch(torch.arange(3))
    # Every task of a domain shares its pixels.
    assert stream[0].train._pixels is stream[4].test._pixels is not stream[5].train._pixels


def test_what_does_not_fit_into_memory_is_decoded_in_batches_and_is_the_same(office):
    kept = make(office, tasks=6)
    partly = make(office, tasks=6, in_memory_limit_bytes=65 * 5 * 3 * 64)
    assert [task.train.is_in_memory for task in partly] == [True] * 5 + [False]
    assert [task.digest() for task in partly] == [task.digest() for task in kept]
    for one, other in zip(kept, partly, strict=True):
        assert torch.equal(one.test.batch(torch.arange(5))[0], other.test.batch(torch.arange(5))[0])


def test_every_image_is_in_one_part_of_one_task_and_the_seed_decides_which(office):
    one, same, other = (make(office, seed=seed) for seed in (1, 1, 2))
    used = Counter(path for task in one for part in files_of(task) for path in part)
    assert set(used.values()) == {1}
    assert len(used) == 2 * 65 * 5
    assert [files_of(task) for task in one] == [files_of(task) for task in same]
    assert all(files_of(a)[2] != files_of(b)[2] for a, b in zip(one, other, strict=True))
    assert [task.digest() for task in one] == [task.digest() for task in same]


@pytest.mark.parametrize("renamed", ["OfficeHomeDataset", "."])
def test_the_set_is_found_under_other_names(office, tmp_path, renamed):
    home = tmp_path / renamed
    shutil.copytree(office / "OfficeHomeDataset_10072016", home, dirs_exist_ok=True)
    (home / "Real World").rename(home / "RealWorld")  # as in the authors' code
    assert [task.digest() for task in make(tmp_path, tasks=6)] == [
        task.digest() for task in make(office, tasks=6)
    ]


def test_other_domains_can_be_asked_for_and_fewer_tasks(office, tmp_path):
    home = tmp_path / "OfficeHomeDataset"
    for name in ("Art", "Clipart"):
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).symlink_to(office / "OfficeHomeDataset_10072016" / "Product")
    stream = make(tmp_path, domains=["Clipart", "Art"], tasks=7)
    assert [task.name for task in stream][::6] == ["office-home-lasem-clipart-0", "office-home-lasem-art-1"]
    with pytest.raises(SettingError, match=r"tasks.*11"):
        make(office, tasks=11)


def test_missing_domains_say_where_to_get_them_and_where_to_put_them(tmp_path):
    with pytest.raises(DataMissingError, match=r"Office-Home.*https://.*root=") as caught:
        make(tmp_path)
    assert str(tmp_path / "OfficeHomeDataset_10072016" / "Product") in str(caught.value)
    with pytest.raises(DataMissingError, match=r"PACS.*pacs_art or .*art_painting, found none; https://"):
        make_pacs(tmp_path)


@pytest.fixture
def broken(office, tmp_path):
    """A copy of Office-Home to be damaged."""
    return shutil.copytree(office / "OfficeHomeDataset_10072016", tmp_path / "OfficeHomeDataset_10072016")


def test_classes_that_are_not_those_of_office_home_are_refused(broken):
    (broken / "Real World" / "TV").rename(broken / "Real World" / "Television")
    with pytest.raises(
        DataError, match=r"Real World: expected the 65 .*found TV missing and Television besides;"
    ):
        make(broken.parent)
    shutil.rmtree(broken / "Real World" / "Television")
    with pytest.raises(DataError, match="found TV missing; get it again"):
        make(broken.parent)


def test_all_damage_of_a_domain_is_told_when_the_stream_is_made(broken):
    bed = broken / "Product" / "Bed"
    (bed / "00001.jpg").write_bytes((bed / "00001.jpg").read_bytes()[:60])
    (bed / "00002.jpg").write_bytes(b"no image")
    (broken / "Product" / "Bike" / "more").mkdir()
    for path in (broken / "Product" / "Oven").iterdir():
        path.unlink()
    with pytest.raises(DataProblemsError) as caught:
        make(broken.parent)
    assert [(problem.kind, problem.where) for problem in caught.value.problems] == [
        ("broken image", "Bed/00001.jpg"),
        ("not an image", "Bed/00002.jpg"),
        ("unknown folder", "Bike/more"),
        ("empty class", "Oven"),
    ]


def test_copies_stay_in_one_part_and_the_same_image_in_two_classes_is_taken(broken):
    pen, pencil = broken / "Product" / "Pen", broken / "Product" / "Pencil"
    for index in range(6, 12):
        shutil.copy(pen / "00001.jpg", pen / f"{index:05}.jpg")
    shutil.copy(pen / "00002.jpg", pencil / "00006.jpg")
    for seed in range(3):
        for task in make(broken.parent, seed=seed, domains=["Product"]):
            if "Pen" in task.classes:
                copies = {f"{index:05}.jpg" for index in (1, *range(6, 12))}
                held = [
                    {path.name for path in part.paths if path.parent.name == "Pen"} & copies
                    for part in (task.train, task.val, task.test)
                ]
                assert sorted(map(len, held)) == [0, 0, 7]


# PACS


def test_pacs_has_the_same_groups_of_three_classes_in_each_domain(pacs):
    stream = make_pacs(pacs)
    assert [(task.name, task.classes) for task in stream] == [
        ("pacs-office-home-art-0", PACS[:3]),
        ("pacs-office-home-art-1", PACS[3:]),
        ("pacs-office-home-cartoon-0", PACS[:3]),
        ("pacs-office-home-cartoon-1", PACS[3:]),
    ]
    pairs = make_pacs(pacs, domains=["sketch", "art", "cartoon"], classes_per_task=2, order="seeded", seed=3)
    assert len(pairs) == 9
    assert [task.classes for task in pairs[:3]] == [task.classes for task in pairs[6:]]
    assert sorted(name for task in pairs[:3] for name in task.classes) == list(PACS)
    assert make_pacs(pacs, tasks=3)[-1].name == "pacs-office-home-cartoon-0"


def test_the_parts_a_domain_comes_in_are_pooled_and_dealt_out_anew(pacs):
    tests = set()
    for seed in range(4):
        task = make_pacs(pacs, seed=seed)[0]
        assert [len(part) for part in (task.train, task.val, task.test)] == [18, 3, 9]
        assert len({path for part in files_of(task) for path in part}) == 30
        tests.update(files_of(task)[2])
    assert {path.split("/")[-3] for path in tests} == {"train", "test"}


def test_pacs_as_published_has_a_seventh_class_that_is_left_over(tmp_path):
    for number, name in enumerate(("art_painting", "photo")):
        domain(tmp_path / name, (*PACS, "person"), start=100 * number)
    stream = make_pacs(tmp_path, domains=["art", "photo"])
    assert [task.classes for task in stream] == [PACS[:3], PACS[3:]] * 2
    assert len(make_pacs(tmp_path, domains=["photo"], classes_per_task=7)[0].classes) == 7


def test_domains_of_different_classes_are_refused(pacs, tmp_path):
    shutil.copytree(pacs / "pacs_art", tmp_path / "pacs_art")
    domain(tmp_path / "pacs_cartoon", (*PACS[:5], "cat"))
    with pytest.raises(
        DataError, match=r"pacs_cartoon: expected the 6 classes.*found house missing and cat besides"
    ):
        make_pacs(tmp_path)


def test_the_same_picture_in_two_parts_of_a_domain_is_one_image_twice(pacs, tmp_path):
    shutil.copytree(pacs / "pacs_art", tmp_path / "pacs_art")
    for part in ("train", "test"):
        (tmp_path / "pacs_art" / part / "dog" / "copy.png").write_bytes(picture(7))
    for seed in range(5):
        task = make_pacs(tmp_path, domains=["art"], seed=seed)[0]
        assert sorted(sum("copy.png" in path for path in part) for part in files_of(task)) == [0, 0, 2]


@pytest.mark.real_data
@pytest.mark.parametrize(("domains", "tasks"), [(("art", "cartoon"), 4), (("art", "cartoon", "sketch"), 6)])
def test_the_recipe_of_office_home_runs_on_pacs(shared_data, domains, tasks):
    stream = streams.make("pacs-office-home", root=shared_data / "datasets", domains=domains)
    assert len(stream) == tasks
    assert stream[0].classes == stream[2].classes == ("dog", "elephant", "giraffe")
    for task in stream:
        assert [len(part) for part in (task.train, task.val, task.test)] == [144, 24, 72]
        assert task.shape == (3, 128, 128)
        assert task.train.is_in_memory
