import logging
import random
import threading

from benchmarks.exchange_world import Stand
from tests.sharing.exchange.ends import stocked

from stolon.sharing.exchange import messages as m
from stolon.sharing.exchange.answers import FEW_IDS, MAX_MARKS, Answers
from stolon.sharing.exchange.index import Index
from stolon.sharing.limits import MAX_ENVELOPE, MAX_MESSAGE

NONE = bytes(32)


def made(*numbers: int) -> list[str]:
    return [f"{number:064x}" for number in numbers]


def ask(answers: Answers, request: m.Request) -> m.Reply:
    return m.read_reply(answers.answer(request.to_bytes()))


def with_ids(ids) -> Answers:
    return Answers(Stand(), Index.of(ids))


def test_who_holds_the_same_is_told_so_in_one_byte():
    answers = with_ids(made(1, 2))
    assert answers.answer(m.Compare(Index.of(made(1, 2)).fingerprint, NONE).to_bytes()) == m.Same().to_bytes()


def test_who_saw_this_before_is_told_so_in_one_byte():
    answers = with_ids(made(1, 2))
    fingerprint = Index.of(made(1, 2)).fingerprint
    assert answers.answer(m.Compare(NONE, fingerprint).to_bytes()) == m.Known().to_bytes()


def test_a_small_set_is_listed_and_a_large_one_given_by_buckets():
    small, large = with_ids(made(*range(FEW_IDS))), with_ids(made(*range(FEW_IDS + 1)))
    assert ask(small, m.Compare(NONE, NONE)).ids == tuple(made(*range(FEW_IDS)))
    reply = ask(large, m.Compare(NONE, NONE))
    assert (type(reply), reply.count) == (m.Buckets, FEW_IDS + 1)
    assert reply.digests == Index.of(made(*range(FEW_IDS + 1))).digests


def test_who_saw_an_earlier_state_is_told_what_came_since():
    answers = with_ids(made(*range(1000)))
    before = Index.of(made(*range(1000))).fingerprint
    answers.replace(Index.of(made(*range(1001))))
    between = Index.of(made(*range(1001))).fingerprint
    answers.replace(Index.of(made(*range(1003))))
    now = Index.of(made(*range(1003))).fingerprint
    assert ask(answers, m.Compare(NONE, before)) == m.Ids(now, tuple(made(1000, 1001, 1002)))
    assert ask(answers, m.Compare(NONE, between)) == m.Ids(now, tuple(made(1001, 1002)))


def test_too_much_news_is_told_as_if_nothing_were_known():
    answers = with_ids([])
    before = Index.of([]).fingerprint
    answers.replace(Index.of(made(*range(FEW_IDS + 1))))
    assert type(ask(answers, m.Compare(NONE, before))) is m.Buckets


def test_after_a_removal_everything_is_listed():
    answers = with_ids(made(1, 2))
    before = Index.of(made(1, 2)).fingerprint
    answers.replace(Index.of(made(2, 3)))
    assert ask(answers, m.Compare(NONE, before)).ids == tuple(made(2, 3))


def test_states_long_ago_are_forgotten_and_later_ones_still_known():
    answers = with_ids(made(0))
    fingerprints = [Index.of(made(0)).fingerprint]
    for count in range(1, MAX_MARKS + 10):
        index = Index.of(made(*range(count + 1)))
        fingerprints.append(index.fingerprint)
        answers.replace(index)
    last = len(fingerprints)
    assert type(ask(answers, m.Compare(NONE, fingerprints[0]))) is m.Buckets
    assert ask(answers, m.Compare(NONE, fingerprints[-4])).ids == tuple(made(last - 3, last - 2, last - 1))
    assert len(answers._marks) <= MAX_MARKS


def test_the_ids_of_the_buckets_asked_for_are_listed():
    ids = ["00" * 32, "01" + "00" * 31, "01" + "ff" * 31, "ff" * 32]
    assert ask(with_ids(ids), m.ListIds((1, 255))).ids == tuple(ids[1:])
    assert ask(with_ids(ids), m.ListIds(())).ids == ()


def test_a_list_of_ids_is_cut_at_its_limit():
    ids = made(*range(m.MAX_IDS + 5))
    reply = with_ids(ids).answer(m.ListIds((0,)).to_bytes())
    assert m.read_reply(reply).ids == tuple(ids[: m.MAX_IDS])
    assert len(reply) <= MAX_MESSAGE


def test_envelopes_and_pieces_of_blobs_are_given():
    stand = stocked(1, size=100)
    (id_, envelope), (sha, blob) = *stand.envelopes.items(), *stand.blobs.items()
    answers = Answers(stand, Index.of(stand.ids()))
    assert ask(answers, m.GetEnvelope(id_)) == m.EnvelopeIs(envelope)
    assert ask(answers, m.GetBlob(sha, 0, 1000)) == m.Piece(blob)
    assert ask(answers, m.GetBlob(sha, 90, 5)) == m.Piece(blob[90:95])
    assert ask(answers, m.GetBlob(sha, 500, 5)) == m.Piece(b"")


def test_a_blob_is_read_once_for_all_its_pieces():
    class Counting(Stand):
        reads = 0

        def blob(self, sha):
            self.reads += 1
            return bytes(100)

    counting = Counting()
    answers = Answers(counting, Index.of([]))
    for offset in range(0, 100, 10):
        assert ask(answers, m.GetBlob("ab" * 32, offset, 10)) == m.Piece(bytes(10))
    assert counting.reads == 1


def test_what_is_not_held_or_too_large_is_absent():
    stand = Stand()
    stand.envelopes = {"aa" * 32: b"", "bb" * 32: bytes(MAX_ENVELOPE + 1)}
    answers = Answers(stand, Index.of([]))
    for id_ in ("aa" * 32, "bb" * 32, "cc" * 32):
        assert ask(answers, m.GetEnvelope(id_)) == m.Absent()
    assert ask(answers, m.GetBlob("aa" * 32, 0, 1)) == m.Absent()


def test_what_cannot_be_read_is_absent_and_told_in_the_log(caplog):
    class Broken(Stand):
        def envelope(self, id_):
            raise OSError("the disk is gone")

        blob = envelope

    answers = Answers(Broken(), Index.of([]))
    with caplog.at_level(logging.ERROR):
        assert ask(answers, m.GetEnvelope("aa" * 32)) == m.Absent()
        assert ask(answers, m.GetBlob("aa" * 32, 0, 1)) == m.Absent()
    assert caplog.text.count("OSError: the disk is gone") == 2


def test_hostile_requests_are_answered_and_bounded():
    answers = Answers(stocked(1, 2), Index.of(stocked(1, 2).ids()))
    rng = random.Random(3)
    for size in (0, 1, 2, 33, 41, 65, 1000, 4 * 2**20):
        for kind in range(0, 256, 5):
            data = (bytes([kind]) + rng.randbytes(min(size, 100)) + bytes(size))[:size]
            assert 1 <= len(answers.answer(data)) <= MAX_MESSAGE
    assert answers.answer("é漢字".encode() * 20) == m.Absent().to_bytes()


def test_bytes_are_counted_by_kind_from_all_threads():
    stand = stocked(1)
    answers = Answers(stand, Index.of(stand.ids()))
    (id_, envelope), (sha, blob) = *stand.envelopes.items(), *stand.blobs.items()

    def many():
        for _ in range(200):
            answers.answer(m.GetEnvelope(id_).to_bytes())
            answers.answer(m.GetBlob(sha, 0, 1000).to_bytes())
            answers.answer(b"?")

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    nothing = with_ids([]).sent
    assert answers.sent.plus(nothing).envelope == 800 * (1 + len(envelope))
    assert answers.sent.plus(nothing).blob == 800 * (1 + len(blob))
    assert answers.received.plus(nothing).index == 800
    assert answers.received.plus(nothing).total == 800 * (33 + 41 + 1)
