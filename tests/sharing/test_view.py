import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.sharing.test_manifest import GOOD

from stolon.sharing import view
from stolon.sharing.limits import MAX_VERSIONS

SIZE = view.size(GOOD)


def made(task="t", seq=1, author="a", replaces=(), extra=0):
    file = replace(GOOD.files[0], bytes=GOOD.files[0].bytes + extra)
    return replace(
        GOOD, task=task, seq=seq, author=author * 64, replaces=replaces, files=(file, GOOD.files[1])
    )


def test_the_newest_version_of_a_task_is_current_and_equal_ones_are_told_apart_by_id():
    found = {"1": made(seq=1), "2": made(seq=3), "3": made(seq=3), "4": made(seq=2)}
    assert view.current(found) == {"3"}


def test_tasks_of_one_name_by_different_authors_are_different_tasks():
    assert view.current({"1": made(author="a"), "2": made(author="b", seq=9)}) == {"1", "2"}


def test_a_task_under_a_new_name_replaces_the_old_one():
    assert view.current({"1": made("old"), "2": made("new", replaces=("1",))}) == {"2"}


def test_nobody_replaces_another_authors_module():
    assert view.current({"1": made(author="a"), "2": made("x", author="b", replaces=("1",))}) == {"1", "2"}


def test_of_a_task_the_newest_versions_are_kept():
    found = {str(seq): made(seq=seq) for seq in range(1, 8)}
    assert view.kept(found, 100, 10**9) == {str(seq) for seq in range(8 - MAX_VERSIONS, 8)}


def test_of_too_many_tasks_those_of_higher_rank_are_kept():
    found = {str(i): made(f"t{i}", seq=i) for i in range(1, 6)}
    assert view.kept(found, 5, 10**9) == set(found)
    assert view.kept(found, 4, 10**9) == {"2", "3", "4", "5"}
    assert view.kept(found, 0, 10**9) == set()


def test_the_module_that_uses_the_bytes_up_is_the_last_that_is_kept():
    found = {str(i): made(f"t{i}", seq=i) for i in range(1, 6)}
    assert view.kept(found, 100, 2 * SIZE) == {"4", "5"}
    assert view.kept(found, 100, 2 * SIZE + 1) == {"3", "4", "5"}
    assert view.kept(found, 100, 1) == {"5"}


manifests = st.lists(
    st.tuples(st.sampled_from("xyz"), st.integers(1, 7), st.integers(0, 3)), max_size=14
).map(
    lambda rows: {f"{i:02}": made(task, seq, extra=extra * SIZE) for i, (task, seq, extra) in enumerate(rows)}
)


@given(manifests, st.integers(1, 6), st.integers(1, 9), st.randoms(use_true_random=False))
def test_offering_until_nothing_changes_ends_at_the_same_set_in_every_order(found, modules, sizes, rng):
    # This is why agents agree although they forget what they had no room for.
    def settled(order):
        order = list(order)
        held: dict = {}
        while True:
            before = dict(held)
            for id_ in order:
                more = {**held, id_: found[id_]}
                held = {kept: more[kept] for kept in view.kept(more, modules, sizes * SIZE)}
            if held == before:
                return set(held)

    orders = [sorted(found), sorted(found, reverse=True)]
    shuffled = sorted(found)
    rng.shuffle(shuffled)
    results = [settled(order) for order in (*orders, shuffled)]
    assert results[0] == results[1] == results[2]


@given(manifests, st.integers(1, 6), st.integers(1, 9))
def test_one_more_never_lowers_the_set(found, modules, sizes):
    # The proof's step: in the order of ranks, what is kept only ever rises. So no one can make agents flap.
    held: dict = {}
    for id_ in random.Random(0).sample(sorted(found), len(found)) * 2:
        before = sorted((view.rank(one, held[one]) for one in held), reverse=True)
        more = {**held, id_: found[id_]}
        held = {kept: more[kept] for kept in view.kept(more, modules, sizes * SIZE)}
        assert sorted((view.rank(one, held[one]) for one in held), reverse=True) >= before
