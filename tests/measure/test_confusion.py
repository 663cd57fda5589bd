import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stolon.errors import SettingError
from stolon.measure import mapper_accuracy, task_confusion

TASKS = ("a", "b", "c")
answers = st.dictionaries(
    st.sampled_from(TASKS), st.lists(st.sampled_from([*TASKS, None]), max_size=20), min_size=1
)


@given(answers)
def test_counts_agree_with_counting_by_hand(predicted):
    counts = task_confusion(predicted, TASKS)
    for i, true in enumerate(TASKS):
        for j, answer in enumerate([*TASKS, None]):
            assert counts[i, j] == predicted.get(true, []).count(answer)


@given(answers)
def test_the_mappers_accuracy_is_the_share_of_right_names(predicted):
    counts = task_confusion(predicted, TASKS)
    shares = [found.count(task) / len(found) for task, found in predicted.items() if found]
    right = sum(found.count(task) for task, found in predicted.items())
    total = sum(map(len, predicted.values()))
    if not total:
        assert math.isnan(mapper_accuracy(counts))
    else:
        assert mapper_accuracy(counts) == pytest.approx(sum(shares) / len(shares))
        assert mapper_accuracy(counts, mean_over="samples") == pytest.approx(right / total)


def test_one_task_that_is_never_unknown_is_mapped_perfectly():
    assert mapper_accuracy(task_confusion({"a": ["a"] * 5}, ["a"])) == 1.0


@pytest.mark.parametrize("predicted", [{"a": ["z"]}, {"z": []}])
def test_tasks_that_do_not_exist_are_refused(predicted):
    with pytest.raises(SettingError, match="'z'"):
        task_confusion(predicted, TASKS)


@pytest.mark.parametrize("counts", [np.ones((2, 2)), np.ones(3), -np.ones((1, 2))])
def test_what_are_no_counts_is_refused(counts):
    with pytest.raises(SettingError, match="counts"):
        mapper_accuracy(counts)
