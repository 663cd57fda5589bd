import hashlib

from stolon.sharing.exchange.peers import Allowance, Peer
from stolon.sharing.exchange.pulls import DOUBTFUL_PULLS, MAX_OPEN, Pulls
from stolon.sharing.limits import PULLS, PULLS_PER_PEER

ONE, TWO = "11" * 32, "22" * 32


def peer(number: int) -> Peer:
    return Peer(f"{number:064x}", Allowance(1, 1))


def begun(pulls: Pulls) -> list[tuple[Peer, str]]:
    """Ask for all that can be asked for at once."""
    found = []
    while (chosen := pulls.next()) is not None:
        pulls.begin(*chosen)
        found.append((chosen[0], chosen[1].id))
    return found


def test_the_limits_hold_and_doubtful_peers_get_half_of_the_places():
    pulls = Pulls()
    good, slow = peer(1), [peer(number) for number in (2, 3, 4)]
    for one in (good, *slow):
        for number in range(10):
            pulls.note(one, f"{one.id[:2]}{number:062x}")
    for one in slow:
        one.failures = 2
    found = begun(pulls)
    assert [one for one, _ in found].count(good) == PULLS_PER_PEER
    assert len(found) == PULLS
    assert all([one for one, _ in found].count(other) <= 1 for other in slow)


def test_doubtful_peers_get_half_of_the_places_even_where_nobody_else_wants_them():
    pulls = Pulls()
    for number in range(1, 9):
        slow = peer(number)
        slow.failures = 2
        pulls.note(slow, f"{number:064x}")
    assert len(begun(pulls)) == DOUBTFUL_PULLS


def test_one_peer_can_note_a_thousand():
    pulls, one = Pulls(), peer(1)
    assert [pulls.note(one, f"{number:064x}") for number in range(MAX_OPEN + 1)] == [True] * MAX_OPEN + [
        False
    ]


def test_what_is_lost_goes_to_another_source_first_and_back_when_that_fails_too():
    pulls, first, second = Pulls(), peer(1), peer(2)
    pulls.note(first, ONE)
    assert begun(pulls) == [(first, ONE)]
    pulls.note(second, ONE)
    pull = pulls.get(ONE)
    assert pulls.is_asked(pull, first)
    pulls.lost(pull, first, 1)
    assert not pulls.is_asked(pull, first)
    assert begun(pulls) == [(second, ONE)]
    pulls.lost(pull, second, 1)
    assert begun(pulls) == [(first, ONE)]
    pulls.lost(pull, first, 1)
    assert list(pull.sources) == [second.id]
    assert first.look.has_failed
    assert pulls.done == [first]
    assert begun(pulls) == [(second, ONE)]
    pulls.lost(pull, second, 1)
    assert pulls.get(ONE) is None
    assert len(pulls) == 0


def test_a_reply_makes_up_for_what_was_lost_before():
    pulls, one = Pulls(), peer(1)
    pulls.note(one, ONE)
    for _ in range(20):
        assert begun(pulls) == [(one, ONE)]
        pulls.lost(pulls.get(ONE), one, 1)
        assert begun(pulls) == [(one, ONE)]
        pulls.end(pulls.get(ONE))
    assert pulls.get(ONE).sources == {one.id: 0}


def test_a_blob_is_fetched_by_one_pull_and_given_to_all_that_list_it():
    blob = b"shared"
    sha = hashlib.sha256(blob).hexdigest()
    pulls, one, other = Pulls(), peer(1), peer(2)
    pulls.note(one, ONE)
    pulls.note(other, TWO)
    first, second = pulls.get(ONE), pulls.get(TWO)
    for pull in (first, second):
        pulls.judge(pull, b"envelope", [(sha, len(blob))], "teller")
    assert begun(pulls) == [(one, ONE)]
    pulls.add(first, one, blob)
    assert pulls.complete(first)
    pulls.end(first)
    assert (first.got, second.got) == ({sha: blob}, {sha: blob})
    assert sorted(id_ for _, id_ in begun(pulls)) == [ONE, TWO]
    third = "33" * 32
    pulls.note(one, third)
    pulls.judge(pulls.get(third), b"envelope", [(sha, len(blob))], "teller")
    assert pulls.get(third).missing == []


def test_who_waited_for_a_blob_fetches_it_where_the_first_one_fails():
    pulls, one, other = Pulls(), peer(1), peer(2)
    pulls.note(one, ONE)
    pulls.note(other, TWO)
    for id_ in (ONE, TWO):
        pulls.judge(pulls.get(id_), b"envelope", [("ab" * 32, 5)], "teller")
    assert begun(pulls) == [(one, ONE)]
    pulls.leave_all(one)
    assert pulls.asked == {}
    assert begun(pulls) == [(other, TWO)]
    assert pulls.get(ONE) is not None, "its envelope is kept for whoever lists it next"
    assert len(pulls) == 1


def test_what_must_come_from_one_peer_stays_with_it_until_that_is_gone():
    pulls, one, other = Pulls(), peer(1), peer(2)
    pulls.note(one, ONE)
    pulls.note(other, ONE)
    pull = pulls.get(ONE)
    pulls.judge(pull, b"envelope", [("ab" * 32, 10)], "teller")
    pull.is_alone = True
    assert begun(pulls) == [(one, ONE)]
    pulls.add(pull, one, b"12345")
    pulls.end(pull)
    one.failures = 5  # the other one would be preferred
    assert begun(pulls) == [(one, ONE)]
    for _ in range(3 + 6):  # half of it is there, and half of four times as much is borne
        pulls.lost(pull, one, 3)
        assert begun(pulls) == [(one, ONE)]
        assert pull.buffer == b"12345"
    pulls.lost(pull, one, 3)
    assert begun(pulls) == [(other, ONE)]
    assert pull.buffer == b""


def test_a_peer_that_leaves_while_the_bank_takes_it_in_changes_nothing():
    pulls, one = Pulls(), peer(1)
    pulls.note(one, ONE)
    pull = pulls.get(ONE)
    pull.is_committing = True
    pulls.leave_all(one)
    assert pulls.get(ONE) is pull
    pulls.finish(pull)
    assert pulls.get(ONE) is None
