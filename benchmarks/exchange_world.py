"""A world in which exchanges run in fake time, one thread, one queue of events; any seed replays exactly.

Links lose, repeat and reorder messages; agents are cut off, restarted and put back to old copies; each has a
clock of its own. Modules are stand-ins that are checked quickly: an author's tag instead of a signature.
"""

# ruff: noqa: D102, ARG002, S311 - stand-ins for documented protocols; nothing here is a secret
import hashlib
import heapq
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from stolon.sharing.codes import Code, Refused
from stolon.sharing.exchange.engine import Exchange
from stolon.sharing.exchange.ports import Action, Ask, Commit, ExchangeSettings, Holdings, Publish, Wanted
from stolon.sharing.limits import MAX_MESSAGE

YEARS_S = 365.25 * 86_400
ROUND_S = ExchangeSettings().round_s


def name(number: int) -> str:
    """An agent's public key."""
    return hashlib.sha256(b"agent %d" % number).hexdigest()


# Stand-ins for modules: kind, author, number, blobs; then the author's tag.

_HEAD = struct.Struct(">1s4sI")
_BLOB = struct.Struct(">32sI")
TAG = 16


def tag(author: bytes, payload: bytes) -> bytes:
    """What stands for a signature: only the world's honest code calls this for others."""
    return hashlib.blake2b(payload, key=b"secret of " + author, digest_size=TAG).digest()


def make(kind: bytes, author: bytes, number: int, blobs: list[bytes]) -> tuple[bytes, dict[str, bytes]]:
    """An envelope and its blobs; kind M is good, P passes everything but the last check, B is of no use."""
    shas = [hashlib.sha256(blob) for blob in blobs]
    listed = b"".join(_BLOB.pack(sha.digest(), len(blob)) for sha, blob in zip(shas, blobs, strict=True))
    payload = _HEAD.pack(kind, author, number) + listed
    return payload + tag(author, payload), {
        sha.hexdigest(): blob for sha, blob in zip(shas, blobs, strict=True)
    }


_verdicts: dict[bytes, Wanted | Refused] = {}


def judge(envelope: bytes) -> Wanted | Refused:
    """What acceptance says of a stand-in; authors whose name begins with L are listed."""
    verdict = _verdicts.get(envelope)
    if verdict is None:
        if len(_verdicts) > 10_000:
            _verdicts.clear()
        verdict = _verdicts[envelope] = _judge(envelope)
    return verdict


def _judge(envelope: bytes) -> Wanted | Refused:
    payload, its_tag = envelope[:-TAG], envelope[-TAG:]
    if len(payload) < _HEAD.size or (len(payload) - _HEAD.size) % _BLOB.size:
        return Refused(Code.MALFORMED, "no stand-in")
    kind, author, _ = _HEAD.unpack_from(payload)
    if author[:1] != b"L":
        return Refused(Code.UNKNOWN_AUTHOR, author.hex())
    if tag(author, payload) != its_tag:
        return Refused(Code.BAD_SIGNATURE, author.hex())
    if kind == b"B":
        return Refused(Code.OTHER_BACKBONE, "another one")
    blobs = _BLOB.iter_unpack(payload[_HEAD.size :])
    return Wanted(hashlib.sha256(payload).hexdigest(), tuple((sha.hex(), size) for sha, size in blobs))


class Stand:
    """A bank of stand-ins, in memory."""

    def __init__(self) -> None:
        self.envelopes: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self._ids: frozenset[str] = frozenset()

    def ids(self) -> frozenset[str]:
        return self._ids

    def envelope(self, id_: str) -> bytes | None:
        return self.envelopes.get(id_)

    def blob(self, sha: str) -> bytes | None:
        return self.blobs.get(sha)

    def judge(self, envelope: bytes) -> Wanted | Refused:
        return judge(envelope)

    def commit(self, envelope: bytes, blobs: Mapping[str, bytes]) -> str | Refused:
        wanted = judge(envelope)
        if isinstance(wanted, Refused):
            return wanted
        if envelope[:1] == b"P":
            return Refused(Code.NOT_FINITE, "poisoned")
        if sorted(blobs) != sorted({sha for sha, _ in wanted.blobs}):
            return Refused(Code.MISSING_BLOB, "not all there")
        self.envelopes[wanted.id] = envelope
        self.blobs.update(blobs)
        self._ids = frozenset(self.envelopes)
        return wanted.id

    def copy(self) -> "Stand":
        made = Stand()
        made.envelopes, made.blobs, made._ids = dict(self.envelopes), dict(self.blobs), self._ids
        return made


@dataclass(eq=False)
class Agent:
    """An honest agent: an exchange, its bank, and a clock that is years off."""

    number: int
    holdings: Holdings
    clock: float
    speed: float
    exchange: Exchange | None = None
    wake_at: float = float("inf")
    life: int = 0
    visible: set[int] = field(default_factory=set)

    def now(self, t: float) -> float:
        return self.clock + t * self.speed


class Liar:
    """A hostile agent: says what it likes. See :mod:`exchange_liars`."""

    def __init__(self, world: "World", number: int) -> None:
        self.world, self.number = world, number
        self.rng = random.Random(f"liar {world.seed} {number}")

    def hints(self) -> tuple[float, list[bytes]]:
        """Seconds until the next time, and the hints to be sent now."""
        return 5.0, []

    def asked(self, asker: int, payload: bytes) -> bytes | None:
        """A reply, or None for never answering."""
        return None


class World:
    """Agents and links, driven by one queue of events.

    Args:
        seed: decides everything.
        loss: share of messages lost, each way.
        repeat: share of messages that come twice.
        slow_s: longest time that a message takes; the shortest is a tenth of it, so messages overtake each other.
    """

    def __init__(self, seed: int, *, loss: float = 0.0, repeat: float = 0.0, slow_s: float = 0.05) -> None:
        self.seed, self.loss, self.repeat, self.slow_s = seed, loss, repeat, slow_s
        self.rng = random.Random(f"world {seed}")
        self.t = 0.0
        self.agents: dict[int, Agent] = {}
        self.liars: dict[int, Liar] = {}
        self.groups: dict[int, int] = {}  # who is cut off from whom: different numbers
        self.made: dict[str, float] = {}  # when each honest module was made
        self.events = 0
        self.trace = hashlib.blake2b(digest_size=16)
        self._queue: list[tuple] = []
        self._order = 0
        self._tickets: dict[tuple[int, int, int], None] = {}
        self.settings = ExchangeSettings()

    # Who is there

    def add(self, number: int, holdings: Holdings) -> Agent:
        clock = self.rng.uniform(-10, 10) * YEARS_S
        agent = self.agents[number] = Agent(number, holdings, clock, self.rng.uniform(0.9, 1.1))
        self.start(agent)
        return agent

    def start(self, agent: Agent) -> None:
        agent.life += 1
        rng = random.Random(f"agent {self.seed} {agent.number} {agent.life}")
        agent.exchange = Exchange(name(agent.number), agent.holdings, rng, self.settings)
        agent.visible = set()
        agent.wake_at = float("inf")
        self.see()
        self._wake(agent)

    def stop(self, agent: Agent) -> None:
        """Its process ends at once; whatever was under way is gone."""
        agent.exchange = None
        agent.life += 1
        self.see()

    def add_liar(self, liar: Liar) -> None:
        self.liars[liar.number] = liar
        self.see()
        self.at(self.t, self._liar_hints, liar)

    def see(self) -> None:
        """Tell everybody who is visible now."""
        there = [n for n, agent in self.agents.items() if agent.exchange] + list(self.liars)
        for agent in self.agents.values():
            if agent.exchange is None:
                continue
            now = {n for n in there if n != agent.number and self._reaches(agent.number, n)}
            for n in sorted(now - agent.visible):
                self._do(agent, agent.exchange.linked(name(n), agent.now(self.t)))
            for n in sorted(agent.visible - now):
                self._do(agent, agent.exchange.unlinked(name(n), agent.now(self.t)))
            agent.visible = now

    def _reaches(self, one: int, other: int) -> bool:
        return self.groups.get(one, 0) == self.groups.get(other, 0)

    # Time

    def at(self, t: float, call, *args) -> None:
        self._order += 1
        heapq.heappush(self._queue, (t, self._order, call, args))

    def run(self, until: float) -> None:
        """Let events happen until that time."""
        queue = self._queue
        while queue and queue[0][0] <= until:
            self.t, _, call, args = heapq.heappop(queue)
            self.events += 1
            call(*args)
        self.t = until

    def changed(self, agent: Agent) -> None:
        """An agent has learned something itself."""
        if agent.exchange is not None:
            self._do(agent, agent.exchange.changed(agent.now(self.t)))

    def _do(self, agent: Agent, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Publish():
                    self.publish(agent.number, action.payload)
                case Ask():
                    self._ask(agent, action)
                case Commit():
                    outcome = agent.holdings.commit(action.envelope, action.blobs)
                    refused = outcome if isinstance(outcome, Refused) else None
                    self._do(agent, agent.exchange.committed(action.id, refused, agent.now(self.t)))
        self._wake(agent)

    def _wake(self, agent: Agent) -> None:
        if agent.exchange is None:
            return
        now = agent.now(self.t)
        due = self.t + max(agent.exchange.next_due(now) - now, 0.0) / agent.speed + 1e-6
        if due < agent.wake_at:
            agent.wake_at = due
            self.at(due, self._tick, agent, due)

    def _tick(self, agent: Agent, due: float) -> None:
        if due == agent.wake_at:
            agent.wake_at = float("inf")
            if agent.exchange is not None:
                self._do(agent, agent.exchange.tick(agent.now(self.t)))

    # Messages

    def publish(self, sender: int, payload: bytes) -> None:
        for n in self.agents:
            if n != sender:
                self._send(sender, n, self._heard, payload)

    def _send(self, sender: int, receiver: int, deliver, *args) -> None:
        """Deliver, later, perhaps twice, perhaps never."""
        rng = self.rng
        if not self._reaches(sender, receiver):
            return
        for _ in range(2 if rng.random() < self.repeat else 1):
            if rng.random() >= self.loss:
                self.at(self.t + self.slow_s * (0.1 + 0.9 * rng.random()), deliver, sender, receiver, *args)

    def note(self, kind: bytes, sender: int, receiver: int, payload: bytes) -> None:
        """Every message that arrives is part of the trace."""
        self.trace.update(
            struct.pack(">1sdHHI", kind, self.t, sender, receiver, len(payload)) + payload[:128]
        )

    def _heard(self, sender: int, receiver: int, payload: bytes) -> None:
        agent = self.agents[receiver]
        self.note(b"h", sender, receiver, payload)
        if agent.exchange is not None:
            self._do(agent, agent.exchange.heard(name(sender), payload, agent.now(self.t)))

    def _ask(self, agent: Agent, action: Ask) -> None:
        number = NUMBERS[action.peer]
        key = (agent.number, agent.life, action.ticket)
        self._tickets[key] = None
        self.at(self.t + action.timeout_s, self._replied, number, agent.number, None, key)
        self._send(agent.number, number, self._asked, action.payload, key)

    def _asked(self, sender: int, receiver: int, payload: bytes, key) -> None:
        self.note(b"q", sender, receiver, payload)
        liar, agent = self.liars.get(receiver), self.agents.get(receiver)
        reply = None
        if liar is not None:
            reply = liar.asked(sender, payload)
        elif agent is not None and agent.exchange is not None:
            reply = agent.exchange.asked(name(sender), payload)
            assert len(reply) <= MAX_MESSAGE
        if reply is not None and len(reply) <= MAX_MESSAGE:
            self._send(receiver, sender, self._replied, reply, key)

    def _replied(self, sender: int, receiver: int, reply: bytes | None, key) -> None:
        agent = self.agents[receiver]
        if reply is None and key not in self._tickets:
            return
        self._tickets.pop(key, None)  # a repeated reply still gets to the exchange, which must not mind
        if agent.exchange is not None and agent.life == key[1]:
            self.note(b"r", sender, receiver, reply or b"")
            self._do(agent, agent.exchange.answered(key[2], reply, agent.now(self.t)))

    def _liar_hints(self, liar: Liar) -> None:
        wait, payloads = liar.hints()
        for payload in payloads:
            self.publish(liar.number, payload)
        self.at(self.t + wait, self._liar_hints, liar)


NUMBERS = {name(number): number for number in range(256)}
