import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import DataError, TaskError
from stolon.tasks import MAX_NAME, Split, Stream, Task, to_float


def split(n=4, classes=2, shape=(1, 2, 2)):
    return Split.of(torch.rand(n, *shape), torch.arange(n) % classes)


@given(st.permutations(list(range(6))))
def test_a_batch_depends_on_its_indices_alone(order):
    s = split(6, 3)
    x, y = s.batch(torch.tensor(order))
    for row, index in enumerate(order):
        alone_x, alone_y = s.batch(torch.tensor([index]))
        assert torch.equal(x[row], alone_x[0])
        assert y[row] == alone_y[0] == s.labels[index]


def test_equal_data_have_equal_digests_and_others_do_not():
    x, y = torch.rand(4, 3), torch.tensor([0, 1, 1, 0])
    assert Split.of(x, y).digest() == Split.of(x.clone(), y.clone().int()).digest()
    assert Split.of(x, y).digest() != Split.of(x + 1, y).digest()
    assert Split.of(x, y).digest() != Split.of(x, 1 - y).digest()
    assert Split.of(x, y).digest() != Split.of(x.view(4, 3, 1), y).digest()


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), "found .3, 2. and .2."),
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "expected inputs"),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), "uint8 or floats"),
        (torch.zeros(3, 2), torch.zeros(3), "labels as integers"),
        (torch.full((3, 2), float("nan")), torch.zeros(3, dtype=torch.int64), "finite"),
    ],
)
def test_inputs_and_labels_of_other_kinds_are_refused(x, y, words):
    with pytest.raises(DataError, match=words):
        Split.of(x, y)


@pytest.mark.parametrize("name", ["", " a", "a\n", "a" * (MAX_NAME + 1), "\x00"])
def test_names_that_no_terminal_could_show_are_refused(name):
    with pytest.raises(TaskError, match="printable"):
        Task(name, ("a", "b"), split(), split(), split())
    with pytest.raises(TaskError, match="class name"):
        Task("t", ("a", name), split(), split(), split())


def test_classes_are_distinct_and_cover_the_labels():
    with pytest.raises(TaskError, match="distinct"):
        Task("t", ("a", "a"), split(), split(), split())
    with pytest.raises(DataError, match="labels 0 to 1, found 0 to 2"):
        Task("t", ("a", "b"), split(6, 3), split(), split())


def test_splits_of_one_task_have_one_shape():
    with pytest.raises(DataError, match="expected inputs"):
        Task("t", ("a", "b"), split(), split(shape=(1, 3, 3)), split())


def test_a_stream_makes_each_task_once_and_only_when_asked():
    made = []

    def make(name):
        made.append(name)
        return Task(name, ("a", "b"), split(), split(), split())

    stream = Stream("s", [lambda: make("one"), lambda: make("two")])
    assert made == []
    assert len(stream) == 2
    assert stream[1].name == "two"
    assert made == ["two"]
    assert [t.name for t in stream] == ["one", "two"]
    assert [t.name for t in stream[:1]] == ["one"]
    assert made == ["two", "one"]


def test_images_of_bytes_become_floats_between_0_and_1():
    x = torch.arange(256, dtype=torch.uint8)
    assert to_float(x).min() == 0
    assert to_float(x).max() == 1
    y = torch.randn(3)
    assert to_float(y) is y


def numbers(n=4, outputs=2, shape=(1, 2, 2), dtype=torch.float32):
    return Split.of(torch.rand(n, *shape), torch.rand(n, outputs, dtype=dtype))


def test_a_task_of_numbers_is_a_regression():
    task = Task("t", ("height", "width"), numbers(), numbers(), numbers())
    assert task.is_regression
    assert not Task("t", ("a", "b"), split(), split(), split()).is_regression
    assert task.train.labels.shape == (4, 2)
    assert task.train.batch(torch.tensor([1]))[1].dtype == torch.float32


def test_numbers_of_any_precision_become_32_bit_floats():
    assert numbers(dtype=torch.float64).labels.dtype == torch.float32
    y = torch.rand(4, 2)
    assert Split.of(torch.zeros(4, 1), y).digest() == Split.of(torch.zeros(4, 1), y.double()).digest()


def test_numbers_are_one_for_each_output_and_in_all_splits():
    with pytest.raises(DataError, match=r"targets \[N, 3\], found \[4, 2\]"):
        Task("t", ("a", "b", "c"), numbers(), numbers(), numbers())
    with pytest.raises(DataError, match="labels in all splits, or targets in all"):
        Task("t", ("a", "b"), numbers(), split(), numbers())
    with pytest.raises(DataError, match="labels in all splits, or targets in all"):
        Task("t", ("a", "b"), split(), numbers(), split())
    empty = Split.of(torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64))
    assert Task("t", ("a", "b"), numbers(), empty, empty).is_regression


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), "targets .N, K."),
        (torch.zeros(3, 2, 1), "targets .N, K."),
        (torch.full((3, 2), float("inf")), "finite targets"),
        (torch.full((3, 2), float("nan")), "finite targets"),
        (torch.zeros(2, 2), "targets .N, K."),
        (torch.zeros(3), "targets .N, K. for regression"),
    ],
)
def test_targets_of_other_kinds_are_refused(y, words):
    with pytest.raises(DataError, match=words):
        Split.of(torch.zeros(3, 2), y)


def test_targets_too_large_for_32_bits_are_refused():
    with pytest.raises(DataError, match="finite targets"):
        Split.of(torch.zeros(3, 2), torch.full((3, 1), 1e300, dtype=torch.float64))
