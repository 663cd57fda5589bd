import torch
from hypothesis import given
from hypothesis import strategies as st

from stolon.randomness import generator, number, permutation, seeded

purposes = st.lists(st.one_of(st.integers(), st.text(max_size=8)), max_size=4)


@given(st.integers(), purposes)
def test_a_number_is_a_function_of_seed_and_purpose(seed, purpose):
    assert number(seed, *purpose) == number(seed, *purpose)
    assert 0 <= number(seed, *purpose) < 2**63


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_other_seeds_give_other_numbers(a, b):
    assert (number(a, "x") == number(b, "x")) == (a == b)


def test_purposes_do_not_run_together():
    assert number(0, "ab", "c") != number(0, "a", "bc")
    assert number(1, "2") != number(12)


@given(st.integers(0, 200), st.integers(0, 5))
def test_a_permutation_holds_everything_once(n, seed):
    assert sorted(permutation(n, seed, "order").tolist()) == list(range(n))


def test_seeded_leaves_no_trace():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with seeded(1, "dropout"):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(torch.rand(2, generator=generator(1, "dropout")), inside)
