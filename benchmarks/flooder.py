"""A hostile agent for benchmarks/slow_peers.py: its key is listed, and it keeps to no rule.

It speaks Zenoh without any limit of its own: 10,000 hints per second (its own, and of agents that do not exist),
appearances of agents that do not exist, requests whose answers it does not read, and answers that never end, list
ids of nothing, or offer modules whose files are said to have 1 GiB.

    python benchmarks/flooder.py KEY_FILE ROSTER ENDPOINT...
"""

import hashlib
import itertools
import json
import random
import sys
import threading
import time
from pathlib import Path

import zenoh
from agents import BACKBONE

from stolon.sharing.envelope import MODULE, seal
from stolon.sharing.exchange.messages import Compare, EnvelopeIs, Hint, Ids, Piece
from stolon.sharing.keys import Key
from stolon.sharing.manifest import File, Manifest

HINTS_PER_SECOND = 10_000
PEERS = 200
"""Agents that it pretends to be."""
KEYS = "stolon/default"


class Flooder:
    """All attacks at once, each in a thread."""

    def __init__(self, key: Key, victims: list[str], endpoints: list[str]) -> None:
        self.key, self.victims = key, victims
        self.rng = random.Random(0)  # noqa: S311 - no secret
        self.masks = [self.rng.randbytes(32).hex() for _ in range(PEERS)]
        config = zenoh.Config()
        for name, value in {
            "mode": "peer",
            "listen/endpoints": [],
            "connect/endpoints": endpoints,
            "scouting/multicast/enabled": False,
            "transport/shared_memory/enabled": False,
        }.items():
            config.insert_json5(name, json.dumps(value))
        self.session = zenoh.open(config)

    def run(self) -> None:
        """Until the input ends."""
        me = self.key.public
        queryables = [
            self.session.declare_queryable(
                f"{KEYS}/ask/{name}", zenoh.handlers.Callback(self.answer, indirect=True)
            )
            for name in (me, *self.masks[:20])
        ]
        tokens = [
            self.session.liveliness().declare_token(f"{KEYS}/alive/{name}") for name in (me, *self.masks)
        ]
        for attack in (self.hint, self.ask, self.appear):
            threading.Thread(target=attack, daemon=True).start()
        print("flooding", flush=True)
        sys.stdin.read()
        del queryables, tokens
        self.session.close()

    def hint(self) -> None:
        """Hint without end."""
        for number in itertools.count():
            began = time.perf_counter()
            for _ in range(HINTS_PER_SECOND // 50):
                name = self.key.public if self.rng.random() < 0.5 else self.rng.choice(self.masks)
                hint = Hint(name, self.rng.randbytes(32), number)
                self.session.put(f"{KEYS}/hint/{name}", hint.to_bytes())
            time.sleep(max(0.0, 0.02 - (time.perf_counter() - began)))

    def ask(self) -> None:
        """Ask as many, and read no answer."""
        while True:
            for victim in self.victims:
                request = Compare(self.rng.randbytes(32), bytes(32)).to_bytes()
                self.session.get(
                    f"{KEYS}/ask/{victim}",
                    zenoh.handlers.RingChannel(1),
                    payload=request,
                    attachment=bytes.fromhex(self.rng.choice(self.masks)),
                    timeout=1,
                )
            time.sleep(0.002)

    def appear(self) -> None:
        """Come and go, under ever new names."""
        alive = self.session.liveliness()
        while True:
            tokens = [alive.declare_token(f"{KEYS}/alive/{self.rng.randbytes(32).hex()}") for _ in range(20)]
            time.sleep(0.5)
            for token in tokens:
                token.undeclare()

    def answer(self, query: zenoh.Query) -> None:
        """Lie, or never end."""
        with query:
            name = str(query.key_expr)
            kind = self.rng.randrange(4)
            if kind == 0:
                ids = tuple(sorted(self.rng.randbytes(32).hex() for _ in range(1000)))
                query.reply(name, Ids(self.rng.randbytes(32), ids).to_bytes())
            elif kind == 1:
                query.reply(name, EnvelopeIs(self.lie()).to_bytes())
            elif kind == 2:
                query.reply(name, Piece(self.rng.randbytes(1 << 20)).to_bytes())
            else:
                ends = time.monotonic() + 2
                while time.monotonic() < ends:
                    query.reply(name, bytes(3 << 20))

    def lie(self) -> bytes:
        """A module, truly signed, with a file of 1 GiB."""
        sha = hashlib.sha256(self.rng.randbytes(8)).hexdigest()
        file = File("head", sha, 1 << 30, {"weight": ("F32", (1 << 14, 1 << 14))})
        manifest = Manifest("lightweight", self.key.public, "lie", ("a", "b"), "x", BACKBONE, (file,))
        return seal(MODULE, manifest.to_payload(), self.key)


if __name__ == "__main__":
    key_file, roster, *places = sys.argv[1:]
    own = Key.read(Path(key_file))
    everybody = json.loads(Path(roster).read_text())
    Flooder(own, [name for name in everybody if name != own.public], places).run()
