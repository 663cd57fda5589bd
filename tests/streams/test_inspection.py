import os
import random
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.streams.making import folder, picture, png_of_size, whole_folder

from stolon.errors import DataError, DataProblemsError
from stolon.streams import folders


@pytest.fixture
def pets(tmp_path):
    return whole_folder(tmp_path / "pets")


def found(path, **options):
    return {(problem.kind, problem.where) for problem in folders.inspect(path, **options)}


def test_a_folder_without_problems_has_none(pets):
    assert folders.inspect(pets) == ()
    folders.check(pets)


def test_all_problems_are_told_together_in_one_error(pets):
    (pets / "train/cat/000.png").write_bytes(b"text")
    (pets / "test/dog/000.png").write_bytes(picture(1)[:50])
    (pets / "val/dog/Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (pets / "README.md").write_text("hello")
    shutil.rmtree(pets / "val/cat")
    expected = {
        ("not an image", "train/cat/000.png"),
        ("broken image", "test/dog/000.png"),
        ("not an image", "val/dog/Thumbs.db"),
        ("stray file", "README.md"),
        ("class missing in part", "val/cat"),
    }
    assert found(pets) == expected
    with pytest.raises(DataProblemsError, match=r"5 problem\(s\) found; nothing was learned") as caught:
        folders.read_task(pets, size=8)
    assert {(problem.kind, problem.where) for problem in caught.value.problems} == expected
    assert caught.value.problems == folders.inspect(pets)


def test_names_that_begin_with_a_dot_are_passed_over(pets):
    (pets / ".git").mkdir()
    (pets / "train/.DS_Store").write_bytes(b"x")
    (pets / "train/cat/._000.png").write_bytes(b"x")
    assert folders.inspect(pets) == ()


def test_an_image_far_too_large_is_found_undecoded(pets):
    (pets / "train/cat/bomb.png").write_bytes(png_of_size(9000, 9000))
    assert found(pets) == {("image too large", "train/cat/bomb.png")}


def test_empty_and_one_sample_classes_are_found(tmp_path):
    path = folder(tmp_path / "pets", {"train/ant": 0, "train/bee": 1, "train/cat": 9, "test/ant": 1,
                                      "test/bee": 1, "test/cat": 1})  # fmt: skip
    assert found(path) == {("empty class", "train/ant"), ("one-sample class", "train/bee")}


@pytest.mark.parametrize(("count", "enough"), [(3, False), (4, True)])
def test_a_class_must_leave_two_images_to_train_on(tmp_path, count, enough):
    path = folder(tmp_path / "pets", {"cat": count, "dog": 20})
    assert found(path) == (set() if enough else {("too few samples", "cat")})
    if enough:
        assert folders.read_task(path, size=4).train.labels.bincount().tolist() == [2, 14]


def test_copies_do_not_make_a_class_large_enough(tmp_path):
    path = folder(tmp_path / "pets", {"cat": 1, "dog": 20})
    for copy in range(9):
        shutil.copy(path / "cat/000.png", path / f"cat/copy{copy}.png")
    assert found(path) == {("too few samples", "cat")}


def test_the_same_image_in_two_parts_is_found(pets):
    shutil.copy(pets / "train/cat/000.png", pets / "test/cat/other.png")
    shutil.copy(pets / "train/dog/000.png", pets / "val/dog/other.png")
    assert found(pets) == {
        ("same image in parts", "train/cat/000.png"),
        ("same image in parts", "train/dog/000.png"),
    }
    assert "test/cat/other.png" in str(folders.inspect(pets)[0])


def test_the_same_image_in_two_classes_is_found_and_within_one_is_allowed(pets):
    shutil.copy(pets / "train/cat/000.png", pets / "train/cat/again.png")
    assert folders.inspect(pets) == ()
    shutil.copy(pets / "train/cat/000.png", pets / "train/dog/other.png")
    assert found(pets) == {("same image in classes", "train/cat/000.png")}


def test_links_are_followed_within_the_set_and_refused_out_of_it(pets, tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(99))
    (pets / "train/cat/inside.png").symlink_to(pets / "train/cat/000.png")
    (pets / "train/cat/outside.png").symlink_to(tmp_path / "secret.png")
    (pets / "train/cat/nowhere.png").symlink_to(pets / "nothing")
    (pets / "train/cat/itself.png").symlink_to(pets / "train/cat/itself.png")
    (pets / "train/elsewhere").symlink_to(tmp_path)
    assert found(pets) == {
        ("link out of the tree", "train/cat/outside.png"),
        ("link out of the tree", "train/elsewhere"),
        ("broken link", "train/cat/nowhere.png"),
        ("broken link", "train/cat/itself.png"),
    }


def test_a_link_to_a_whole_data_set_is_read_and_named_after_the_link(pets, tmp_path):
    (tmp_path / "animals").symlink_to(pets)
    assert folders.read_task(tmp_path / "animals", size=4).name == "animals"


def test_names_that_are_one_on_other_computers_are_found(pets):
    (pets / "train/cat/ABC.png").write_bytes(picture(71))
    (pets / "train/cat/abc.png").write_bytes(picture(72))
    (pets / "train/dog" / unicodedata.normalize("NFC", "é.png")).write_bytes(picture(73))
    (pets / "train/dog" / unicodedata.normalize("NFD", "é.png")).write_bytes(picture(74))
    kinds = [problem.kind for problem in folders.inspect(pets)]
    assert kinds == ["name clash by case"] * 2


def test_classes_that_differ_by_case_between_parts_are_found(pets):
    (pets / "test/cat").rename(pets / "test/Cat")
    assert ("name clash by case", "train/cat") in found(pets)


def test_a_missing_training_part_and_unknown_folders_are_found(tmp_path):
    path = folder(tmp_path / "pets", {"test/cat": 3, "valid/cat": 3})
    assert found(path) == {("missing part", "train"), ("unknown folder", "valid")}


def test_folders_within_classes_are_found(pets):
    (pets / "train/cat/more").mkdir()
    assert found(pets) == {("unknown folder", "train/cat/more")}


@pytest.mark.parametrize("name", [" cat", "c\x07t", "x" * 129, os.fsdecode(b"c\xfft")])
def test_class_names_that_cannot_be_used_are_found(tmp_path, name):
    path = folder(tmp_path / "pets", {name: 5, "dog": 5})
    (problem,) = folders.inspect(path)
    assert problem.kind == "name refused"
    assert str(problem).isprintable()


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_text("")]
)
def test_nothing_to_learn_is_a_problem(tmp_path, make):
    make(tmp_path / "pets")
    assert {kind for kind, _ in found(tmp_path / "pets")} <= {"missing folder", "no classes"}
    with pytest.raises(DataError):
        folders.read_task(tmp_path / "pets", size=8)


def test_unreadable_files_and_folders_are_found(pets, monkeypatch):
    scan, read = os.scandir, Path.open

    def refuse(path, *arguments, **options):
        if Path(path) in (pets / "test/dog", pets / "train/cat/000.png"):  # root may read everything else
            raise PermissionError(13, "Permission denied", str(path))
        return (scan if not arguments and not options else read)(path, *arguments, **options)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    assert found(pets) == {
        ("unreadable file", "test/dog"),
        ("unreadable file", "train/cat/000.png"),
        ("empty class", "test/dog"),
    }


def break_(path, kind, rng):
    """Do one bad thing to a data set."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    directories = sorted(file for file in path.rglob("*") if file.is_dir() and not file.is_symlink())
    file = rng.choice(files) if files else path / "new"
    directory = rng.choice([*directories, path])
    number = rng.randrange(10**6)
    if kind == "garbage":
        file.write_bytes(rng.randbytes(rng.randrange(200)))
    elif kind == "cut":
        file.write_bytes(picture(number)[: rng.randrange(150)])
    elif kind == "flip":
        data = bytearray(picture(number, format=rng.choice(["PNG", "JPEG", "GIF", "BMP", "WEBP", "PPM"])))
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
    elif kind == "bomb":
        file.write_bytes(png_of_size(6000, 5000))
    elif kind == "delete":
        file.unlink(missing_ok=True)
    elif kind == "remove folder":
        shutil.rmtree(directory) if directory != path else None
    elif kind == "odd name":
        name = rng.choice([b"\xff\xfe", b"a\nb", b" x ", "Ünï".encode(), b"CON", b"cat", b"CAT", b"val"])
        (directory / os.fsdecode(name)).mkdir(exist_ok=True)
    elif kind == "stray":
        (directory / rng.choice(["Thumbs.db", "a.txt", ".hidden", "x.PNG"])).write_bytes(rng.randbytes(9))
    elif kind == "copy":
        shutil.copy(file, directory / f"{number}.png") if files else None
    elif kind == "link":
        target = rng.choice(
            [path, path.parent, file, directory, path / "nothing", "/etc", "/dev/zero", "/dev/null"]
        )
        (directory / f"link{number}").symlink_to(target)
    elif kind == "pipe":
        os.mkfifo(directory / f"pipe{number}.png")
    elif kind == "unreadable":
        file.chmod(0) if files else None


KINDS = ("garbage", "cut", "flip", "bomb", "delete", "remove folder", "odd name", "stray", "copy", "link", "pipe",
         "unreadable")  # fmt: skip


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    parted = whole_folder(tmp_path_factory.mktemp("parted") / "set")
    plain = folder(tmp_path_factory.mktemp("plain") / "set", {"cat": 6, "dog": 5})
    return parted, plain


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    plain=st.booleans(),
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=6),
    seed=st.integers(0, 2**32),
)
@example(plain=False, kinds=list(KINDS), seed=0)
@example(plain=True, kinds=list(KINDS) * 2, seed=1)
def test_a_broken_folder_gives_a_typed_report_and_the_same_one_when_learned(
    plain, kinds, seed, originals, tmp_path_factory
):
    path = tmp_path_factory.mktemp("broken") / "set"
    shutil.copytree(originals[plain], path)
    rng = random.Random(seed)
    for kind in kinds:
        break_(path, kind, rng)
    problems = folders.inspect(path, workers=1)
    assert all(problem.kind and str(problem).isprintable() for problem in problems)
    if problems:
        with pytest.raises(DataProblemsError) as caught:
            folders.read_task(path, size=4, workers=1)
        assert caught.value.problems == problems
    else:
        task = folders.read_task(path, size=4, workers=1)
        assert all(len(part) for part in (task.train, task.val, task.test))
    shutil.rmtree(path, ignore_errors=True)
