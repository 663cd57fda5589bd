import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import SettingError
from stolon.measure import AccuracyMatrix, peak_accuracy

unit = st.integers(0, 1000).map(lambda n: n / 1000)


@st.composite
def matrices(draw, values=unit, least=1):
    n = draw(st.integers(least, 6))
    matrix = AccuracyMatrix()
    for i in range(n):
        row = draw(st.lists(values, min_size=i + 1, max_size=i + 1))
        matrix = matrix.with_row(f"task {i}", row, peak=draw(values))
    return matrix


THREE = (
    AccuracyMatrix()
    .with_row("a", [0.8], peak=1.0)
    .with_row("b", [0.4, 0.6], peak=0.6)
    .with_row("c", [0.2, 0.9, 0.5], peak=0.7)
)


def test_a_small_case_by_hand():
    assert THREE[2, 1] == 0.9
    assert len(THREE) == 3
    assert THREE.peak() == pytest.approx((1.0 + 0.6 + 0.7) / 3)
    assert THREE.final() == pytest.approx((0.2 + 0.9 + 0.5) / 3)
    assert THREE.forgetting_ratio() == pytest.approx((0.2 / 0.8 + 0.9 / 0.6) / 2)
    assert THREE.forgetting_ratio("peak") == pytest.approx((0.2 / 1.0 + 0.9 / 0.6) / 2)
    assert THREE.over_time() == (0.8, 0.4, 0.2)
    assert THREE.over_time(1) == (0.6, 0.9)
    assert THREE.average_over_time() == pytest.approx((0.8, 0.5, 1.6 / 3))


def test_normalised_accuracy_is_one_right_after_learning_and_unknown_before():
    found = THREE.normalized()
    expected = [[1, math.nan, math.nan], [0.5, 1, math.nan], [0.25, 1.5, 1]]
    np.testing.assert_allclose(found, expected)


def test_gain_is_positive_where_learning_together_helps():
    gain = THREE.gain([0.1, 0.8, 0.5])
    assert gain.difference == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert gain.relative == pytest.approx((0.1 / 0.1 + 0.1 / 0.8 + 0) / 3)
    assert THREE.gain({"c": 0.5, "b": 0.8, "a": 0.1}) == gain


def test_gain_wants_every_task_alone():
    with pytest.raises(SettingError, match="none for b, c"):
        THREE.gain({"a": 0.5})
    with pytest.raises(SettingError, match="expected 3 accuracies"):
        THREE.gain([0.5])


def test_it_never_changes_but_gives_a_new_one():
    before = AccuracyMatrix()
    before.with_row("a", [1.0], peak=1.0)
    assert len(before) == 0
    with pytest.raises(AttributeError):
        THREE.tasks = ()


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan])
def test_what_is_no_accuracy_is_refused(value):
    with pytest.raises(SettingError, match="0 to 1"):
        AccuracyMatrix().with_row("a", [value], peak=0.5)
    with pytest.raises(SettingError, match="0 to 1"):
        AccuracyMatrix().with_row("a", [0.5], peak=value)


def test_rows_of_a_wrong_length_and_tasks_that_repeat_are_refused():
    with pytest.raises(SettingError, match="expected 4 accuracies"):
        THREE.with_row("d", [0.5], peak=0.5)
    with pytest.raises(SettingError, match="distinct"):
        THREE.with_row("a", [0.5] * 4, peak=0.5)


@given(matrices())
def test_through_json_and_back_it_is_the_same(matrix):
    assert AccuracyMatrix.from_json(json.loads(json.dumps(matrix.to_json()))) == matrix


@pytest.mark.parametrize("value", [{}, {"tasks": ["a"], "rows": [["x"]], "peaks": [1]}, {"tasks": 3}])
def test_json_that_is_no_matrix_is_refused(value):
    with pytest.raises(SettingError, match="accuracy matrix"):
        AccuracyMatrix.from_json(value)


@given(matrices(st.floats(0.01, 1), least=2))
def test_nothing_forgotten_is_a_ratio_of_one(matrix):
    ends = [row[-1] for row in matrix.rows]
    kept = AccuracyMatrix(matrix.tasks, tuple(tuple(ends[: i + 1]) for i in range(len(ends))), tuple(ends))
    assert kept.forgetting_ratio() == pytest.approx(1)
    assert kept.forgetting_ratio("peak") == pytest.approx(1)
    assert kept.final() == pytest.approx(kept.peak())


@given(matrices())
def test_the_matrix_agrees_with_its_naive_twin(matrix):
    """Equations of the docstring, entry by entry, on the array."""
    r, n = matrix.array(), len(matrix)
    assert matrix.final() == pytest.approx(sum(r[n - 1, j] for j in range(n)) / n)
    assert matrix.peak() == pytest.approx(sum(matrix.peaks) / n)
    for denominator in ("end", "peak"):
        d = np.diagonal(r) if denominator == "end" else np.array(matrix.peaks)
        ratios = [r[n - 1, j] / d[j] for j in range(n - 1) if d[j] > 0]
        found = matrix.forgetting_ratio(denominator)
        assert found == pytest.approx(sum(ratios) / len(ratios)) if ratios else math.isnan(found)
    for i in range(n):
        for j in range(n):
            value = matrix.normalized()[i, j]
            ratio = r[i, j] / r[j, j] if j <= i and r[j, j] > 0 else math.nan
            assert value == pytest.approx(ratio) or (not math.isfinite(ratio) and math.isnan(value))


def test_what_has_no_answer_is_nan():
    empty = AccuracyMatrix()
    assert all(math.isnan(v) for v in (empty.peak(), empty.final(), empty.forgetting_ratio()))
    one = empty.with_row("a", [0.5], peak=0.5)
    assert math.isnan(one.forgetting_ratio())
    assert math.isnan(
        one.with_row("b", [0.5, 0.5], peak=0.5).with_row("c", [0, 0, 0], peak=0).gain([0] * 3)[1]
    )


def test_an_unknown_denominator_is_refused():
    with pytest.raises(SettingError, match="end or peak"):
        THREE.forgetting_ratio("best")


epochs = st.lists(st.tuples(unit | st.none(), unit), min_size=1, max_size=8)


@given(epochs)
def test_the_peak_is_the_first_best_on_validation(pairs):
    vals = [v for v, _ in pairs if v is not None]
    if not vals:
        assert peak_accuracy(pairs) == pairs[-1][1]
    else:
        assert peak_accuracy(pairs) == next(t for v, t in pairs if v == max(vals))


@given(epochs)
def test_the_peak_needs_test_accuracies_only_where_validation_improved(pairs):
    best, sparse = -1.0, []
    for val, test in pairs:
        improved = val is not None and val > best
        sparse.append((val, test if improved else None))
        best = val if improved else best
    if best >= 0:
        assert peak_accuracy(sparse) == peak_accuracy(pairs)


def test_a_best_epoch_without_a_test_accuracy_is_refused():
    with pytest.raises(SettingError, match="best validation"):
        peak_accuracy([(0.5, 0.5), (0.6, None)])


def test_no_epochs_have_no_peak():
    assert peak_accuracy([]) is None
