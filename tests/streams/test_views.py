import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import DataError, SettingError
from stolon.streams.noise import Disturbance
from stolon.streams.parts import class_groups, part_sizes, per_class, stratified
from stolon.streams.views import MappedSplit, PixelMap, Scale, relabelled
from stolon.tasks import Split, to_float

IMAGES = torch.randint(0, 256, (50, 2, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
ROWS = torch.arange(49, 9, -1)
LABELS = ROWS % 3


def naive_rotation(x, degrees):
    """By torch's own sampler, in pixel units so that pixels stay square."""
    height, width = x.shape[2:]
    angle = torch.tensor(degrees).deg2rad()
    theta = torch.tensor(
        [
            [angle.cos(), -angle.sin() * height / width, 0],
            [angle.sin() * width / height, angle.cos(), 0],
        ]
    )
    grid = functional.affine_grid(theta.expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return functional.grid_sample(to_float(x), grid, align_corners=False)


@given(st.floats(-360, 360))
def test_a_rotation_is_that_of_torchs_sampler(degrees):
    ours = PixelMap.rotated(6, 5, degrees)(IMAGES)
    assert torch.allclose(ours, naive_rotation(IMAGES, degrees), atol=1e-4)


def test_quarter_turns_are_exact_and_counter_clockwise():
    square = IMAGES[:, :, :5]
    for turns in range(5):
        turned = PixelMap.rotated(5, 5, 90.0 * turns)(square)
        assert torch.equal(turned, to_float(torch.rot90(square, turns, (2, 3))))


@given(st.integers(1, 400), st.integers(0, 50), st.integers(0, 50))
def test_a_permutation_is_a_bijection(pixels, seed, task):
    source = PixelMap.permuted(pixels, seed, task).source[0]
    assert source.sort().values.tolist() == list(range(pixels))


def test_no_task_of_a_seed_is_another_task_of_another_seed():
    orders = {tuple(PixelMap.permuted(64, s, t).source[0].tolist()) for s in range(10) for t in range(10)}
    assert len(orders) == 100


@pytest.mark.parametrize("pixels", [None, PixelMap.permuted(30, 0, 1), PixelMap.rotated(6, 5, 30.0)])
@pytest.mark.parametrize("scale", [None, Scale((0.5, 0.4), (0.2, 0.3))])
def test_a_mapped_split_is_what_the_same_data_in_memory_would_be(pixels, scale):
    mapped = MappedSplit(IMAGES, ROWS, LABELS, pixels=pixels, scale=scale)
    x = IMAGES[ROWS]
    x = x if pixels is None else pixels(x)
    held = Split.of(x if scale is None else scale(x), LABELS)
    assert mapped.digest() == held.digest()
    assert (len(mapped), mapped.shape) == (len(held), held.shape)
    for index in range(len(mapped)):
        for got, expected in zip(
            mapped.batch(torch.tensor([index])), held.batch(torch.tensor([index])), strict=True
        ):
            assert torch.equal(got, expected)


def test_a_disturbance_comes_last_and_goes_by_the_row_of_the_set():
    images = torch.cat([IMAGES, IMAGES[:, :1]], 1)
    pixels, disturbance = PixelMap.permuted(30, 0, 1), Disturbance(0.1, 0.2, (2, 0, 1), key=5)
    mapped = MappedSplit(images, ROWS, LABELS, pixels=pixels, disturbance=disturbance)
    held = Split.of(disturbance(pixels(images[ROWS]), ROWS), LABELS)
    assert mapped.digest() == held.digest()
    assert mapped.digest() != Split.of(disturbance(pixels(images[ROWS]), torch.arange(40)), LABELS).digest()
    for index in range(len(mapped)):
        assert torch.equal(mapped.batch(torch.tensor([index]))[0], held.batch(torch.tensor([index]))[0])


def test_an_empty_mapped_split_has_a_digest():
    nothing = torch.arange(0)
    split = MappedSplit(IMAGES, nothing, nothing)
    assert split.digest() == Split.of(IMAGES[:0], nothing).digest()


def test_tasks_share_their_images():
    first, second = (MappedSplit(IMAGES, ROWS, LABELS, pixels=PixelMap.permuted(30, 0, t)) for t in (1, 2))
    assert first._images.data_ptr() == second._images.data_ptr() == IMAGES.data_ptr()


@pytest.mark.parametrize(
    "rows", [torch.tensor([0, 50]), torch.tensor([-1, 0]), torch.tensor([0]), torch.zeros(1, 2)]
)
def test_rows_that_do_not_exist_are_refused(rows):
    with pytest.raises(DataError, match="expected"):
        MappedSplit(IMAGES, rows, torch.tensor([0, 0]))


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.sampled_from([(0.1,), (0.1, 0.2), (0.0, 0.3), (0.5,)]),
    st.integers(0, 9),
)
def test_stratified_parts_are_disjoint_complete_and_in_proportion(labels, shares, seed):
    y = torch.tensor(labels)
    sizes = {label: part_sizes(labels.count(label), shares) for label in set(labels)}
    if None in sizes.values():
        with pytest.raises(DataError, match="expected enough samples"):
            stratified(y, shares, seed, "test")
        return
    parts = stratified(y, shares, seed, "test")
    assert torch.cat(parts).sort().values.tolist() == list(range(len(labels)))
    for index, part in enumerate(parts[1:]):
        assert all(int((y[part] == label).sum()) == size[index] for label, size in sizes.items())
    for again, part in zip(stratified(y, shares, seed, "test"), parts, strict=True):
        assert torch.equal(again, part)


def test_a_limit_per_class_keeps_that_many_and_a_larger_one_keeps_those_too():
    y = torch.arange(100) % 4
    few, more = (per_class(torch.arange(100), y, limit, 0, "test") for limit in (3, 8))
    assert y[few].bincount().tolist() == [3] * 4
    assert set(few.tolist()) < set(more.tolist())


@given(st.integers(2, 50), st.integers(1, 10), st.integers(1, 10), st.integers(0, 5))
def test_each_class_is_dealt_to_one_task_at_most(classes, tasks, each, seed):
    if tasks * each > classes:
        with pytest.raises(SettingError, match="tasks"):
            class_groups(classes, tasks, each, "seeded", seed)
        return
    groups = class_groups(classes, tasks, each, "seeded", seed)
    dealt = [label for group in groups for label in group]
    assert len(groups) == tasks
    assert len(dealt) == len(set(dealt)) == tasks * each


def test_labels_are_indices_into_the_classes_in_their_order():
    assert relabelled(torch.tensor([9, 2, 9]), [9, 2]).tolist() == [0, 1, 0]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=80), st.integers(1, 6), st.integers(0, 9))
def test_the_groups_of_a_seed_share_no_row_and_together_are_all(labels, limit, seed):
    y = torch.tensor(labels)
    rows = torch.arange(len(labels))
    groups = [per_class(rows, y, limit, seed, "test", group=group) for group in range(80 // limit + 1)]
    assert torch.cat(groups).sort().values.tolist() == rows.tolist()
    for number, group in enumerate(groups):
        for label in set(labels):
            left = max(0, labels.count(label) - number * limit)
            assert int((y[group] == label).sum()) == min(limit, left)
    assert torch.equal(groups[0], per_class(rows, y, limit, seed, "test"))
