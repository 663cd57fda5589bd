"""What a stranger can do to an agent: a bare Zenoh session that keeps to no rules."""

import json
import time

import pytest
import zenoh
from tests.links.ears import A, B, X, connected, listening, until

from stolon.sharing.limits import MAX_HINT, MAX_MESSAGE, MAX_PEERS


@pytest.fixture
def stranger_at():
    sessions: list[zenoh.Session] = []

    def connect(*endpoints: str) -> zenoh.Session:
        config = zenoh.Config()
        for key, value in {
            "mode": "peer",
            "listen/endpoints": [],
            "connect/endpoints": list(endpoints),
            "scouting/multicast/enabled": False,
            "transport/shared_memory/enabled": False,
        }.items():
            config.insert_json5(key, json.dumps(value))
        sessions.append(zenoh.open(config))
        return sessions[-1]

    yield connect
    for session in sessions:
        session.close()


def test_what_a_stranger_puts_or_deletes_beside_the_rules_has_no_effect(stranger_at):
    with listening(A) as a, connected(B, a) as b:
        assert until(lambda: b.sees(A) and a.sees(B))
        stranger = stranger_at(*a.link.endpoints)
        spied = stranger.declare_subscriber("**")
        before = (list(a.peers), list(b.peers))
        good = f"stolon/default/hint/{X}"
        for key in ("**", "stolon/**", "stolon/default/hint/*", "stolon/default/hint/**", good + "/more",
                    f"stolon/default/hint/{A}", "stolon/default/hint/me", f"stolon/other/hint/{X}"):  # fmt: skip
            stranger.put(key, b"forged", congestion_control=zenoh.CongestionControl.BLOCK)
            stranger.delete(key, congestion_control=zenoh.CongestionControl.BLOCK)
        stranger.delete(good)
        stranger.put(good, bytes(MAX_HINT + 1), congestion_control=zenoh.CongestionControl.BLOCK)
        tokens = [
            stranger.liveliness().declare_token(f"stolon/default/alive/{key}") for key in ("*", "**", "me")
        ]
        # The one thing that is by the rules arrives, so all before it would have.
        assert until(lambda: (stranger.put(good, b"good"), len(a.hints) > 0)[1])
        assert set(a.hints) == {(X, b"good")}
        assert (a.peers, b.peers) == before
        a.link.publish(b"not for you")
        assert until(lambda: len(b.hints) == 1)
        assert [
            str(sample.key_expr) for sample in iter(spied.try_recv, None) if b"not" in bytes(sample.payload)
        ] == []
        assert b.hints == [(A, b"not for you")]
        del tokens


def test_what_a_stranger_asks_beside_the_rules_is_not_answered(stranger_at):
    with listening(A) as a:
        stranger = stranger_at(*a.link.endpoints)

        def ask(key: str, **options: object) -> list[bytes]:
            replies = stranger.get(key, timeout=0.5, **options)
            return [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]

        mine, sender = f"stolon/default/ask/{A}", bytes.fromhex(X)
        assert until(lambda: ask(mine, payload=b"fair", attachment=sender) == [b"echo fair"])
        for key in (
            "stolon/default/ask/*",
            "stolon/**",
            f"stolon/default/ask/{B}",
            f"@/{zid_of(stranger)}/**",
        ):
            assert ask(key, payload=b"?", attachment=sender) == []
        assert ask(mine, payload=b"no sender") == []
        assert ask(mine, payload=b"short sender", attachment=b"me") == []
        assert ask(mine, attachment=sender) == []
        assert ask(mine, payload=bytes(1025), attachment=sender) == []
        assert {payload for _, payload in a.asked} == {b"fair"}


def zid_of(session: zenoh.Session) -> str:
    return str(session.info.peers_zid()[0])


def test_a_stranger_who_answers_in_anothers_place_cannot_answer_without_end(stranger_at):
    with listening(A) as a:
        stranger = stranger_at(*a.link.endpoints)

        def flood(query: zenoh.Query) -> None:
            with query:
                for _ in range(200):
                    query.reply_err(b"no")
                query.reply(query.key_expr, b"at last")

        queryable = stranger.declare_queryable(f"stolon/default/ask/{X}", flood)
        assert until(lambda: len(stranger.info.peers_zid()) == 1)
        time.sleep(0.2)
        assert a.ask(X, b"?", timeout_s=3) is None
        assert a.ask(X, b"?", timeout_s=3) is None
        queryable.undeclare()


def test_a_stranger_who_pretends_to_be_many_does_not_hide_who_comes_later(stranger_at):
    with listening(A) as a:
        stranger = stranger_at(*a.link.endpoints)
        alive = stranger.liveliness()
        tokens = [
            alive.declare_token(f"stolon/default/alive/{number:064x}") for number in range(10 * MAX_PEERS)
        ]
        assert until(lambda: a.sees(f"{10 * MAX_PEERS - 1:064x}"))
        with connected(B, a):
            assert until(lambda: a.sees(B))
        del tokens


def test_a_reply_of_any_size_is_no_reply_when_above_the_limit(stranger_at):
    with listening(A) as a:
        stranger = stranger_at(*a.link.endpoints)

        def huge(query: zenoh.Query) -> None:
            with query:
                query.reply(query.key_expr, bytes(2 * MAX_MESSAGE))

        queryable = stranger.declare_queryable(f"stolon/default/ask/{X}", huge)
        time.sleep(0.2)
        assert a.ask(X, b"?", timeout_s=1) is None
        queryable.undeclare()
