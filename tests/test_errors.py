import inspect

import pytest

from stolon import errors


def everything():
    return [v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, Exception)]


@pytest.mark.parametrize("error", everything())
def test_every_error_is_one_of_ours_and_drawn_in_the_tree(error):
    assert issubclass(error, errors.StolonError)
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize("error", [e for e in everything() if e is not errors.StolonError])
def test_every_error_is_also_the_built_in_it_is_a_kind_of(error):
    builtins = [
        b for b in error.__mro__ if b.__module__ == "builtins" and b not in (Exception, BaseException, object)
    ]
    assert builtins
    named = [b.__name__ for b in builtins if b.__name__ in errors.__doc__]
    assert named


def test_problems_are_told_together():
    problems = [
        errors.Problem("broken image", "a/1.png", "truncated"),
        errors.Problem("empty class", "b", "0 files"),
    ]
    error = errors.DataProblemsError("birds", problems)
    assert error.problems == tuple(problems)
    assert "2 problem(s)" in str(error)
    assert "broken image: a/1.png: truncated" in str(error)
