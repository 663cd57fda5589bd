"""The short version of benchmarks/hostile_uploads.py: three cases of every group that take little time."""

import pytest
from benchmarks import hostile_uploads
from benchmarks.hostile_requests import form, picture


@pytest.fixture(scope="module")
def bench():
    with hostile_uploads.Bench() as made:
        yield made


def test_all_are_refused_or_rightly_answered_in_bounded_memory_while_others_are_served(bench):
    corpus = list(hostile_uploads.short())
    assert len(corpus) >= 30
    rows = [bench.send(case) for case in corpus]
    assert [row for row in rows if row["failure"] and not row["failure"].startswith("took")] == []
    assert {row["group"] for row in rows} == {case.group for case in hostile_uploads.cases()}
    wave = bench.slow(50, "half a body", patiently=False)
    assert wave["upload answered"]
    figures = bench.figures()
    assert figures["ordinary requests lost"] == 0
    assert figures["server grew by MB"] < hostile_uploads.SERVER_MB
    assert figures["largest decoder MB"] <= hostile_uploads.WORKER_MB
    assert (
        figures["slowest upload s"] < 10
    )  # 2 on a machine that does nothing else, as the long version has it
    assert figures["slowest ordinary request s"] < 5


def test_a_wrong_answer_and_a_failure_would_be_noticed(bench):
    cases = {case.name: case for case in hostile_uploads.cases() if not case.heavy}
    right, refused = cases["PNG"], cases["text"]
    assert right.failure(200, b"blue").startswith("expected it answered, found 200")
    assert right.failure(415, b"").startswith("expected it answered, found 415")
    assert refused.failure(200, bench.post([form(picture())]).body)
    assert refused.failure(500, b"")
    assert right.failure(*_answer(bench, form(picture("blue"))))
    assert not right.failure(*_answer(bench, form(picture("green"))))


def _answer(bench, sent: bytes) -> tuple[int, bytes]:
    answer = bench.post([sent])
    return answer.status, answer.body
