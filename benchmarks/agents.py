"""A small agent in a process of its own, for benchmarks that need sharing but no learning.

It is a bank, an exchange and a link, ordered about by lines on its standard input; it answers by lines of JSON.
What it adds are synthetic modules of about 60 kB: really signed, really checked, but of random numbers. See
benchmarks/fleet.py for the side that gives the orders.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

WIDTH, CLASSES = 1024, 10
BACKBONE = hashlib.sha256(b"the benchmarks' backbone").hexdigest()


def synthetic_module(author: str, number: int) -> Any:
    """A module of random numbers that passes every check: the same for the same author and number."""
    import torch

    from stolon import randomness
    from stolon.light.anchoring import Anchoring
    from stolon.light.anchors import MahalanobisAnchor
    from stolon.light.answering import TaskKnowledge
    from stolon.sharing.lightweight import METHOD, of_knowledge
    from stolon.sharing.task_module import TaskModule

    rng = randomness.generator(number, "synthetic module", author)

    def rows(count: int) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.randn(count, WIDTH, generator=rng)) * 0.99

    labels = torch.arange(CLASSES).repeat_interleave(2)
    anchor = MahalanobisAnchor(rows(CLASSES), torch.full((CLASSES,), 30), rows(2 * CLASSES), labels, rows(16))
    knowledge = TaskKnowledge(rows(CLASSES), torch.zeros(CLASSES), torch.zeros(0), anchor)
    task = f"{author[:8]}-{number}"
    about = TaskModule(
        METHOD, task, tuple(f"class {index}" for index in range(CLASSES)), {}, "synthetic", BACKBONE
    )
    return of_knowledge(knowledge, about, Anchoring("mahalanobis", {}), "compact")


class Worker:
    """The process's own side: obeys lines, says lines."""

    def __init__(self, folder: Path, roster: Path, listen: str, connect: list[str]) -> None:
        from stolon.links.zenoh import ZenohLink
        from stolon.links.zenoh_settings import ZenohSettings
        from stolon.sharing.bank import Bank
        from stolon.sharing.envelope import TRUST, seal
        from stolon.sharing.exchange.driver import Driver
        from stolon.sharing.exchange.engine import Exchange
        from stolon.sharing.holdings import BankHoldings
        from stolon.sharing.keys import Key
        from stolon.sharing.trust import Author, Trust

        self.key = Key.read(folder / "key")
        self.bank = Bank(folder / "bank")
        if self.bank.trust is None:
            trust = Trust.fresh(self.key.public)
            for number, key in enumerate(json.loads(roster.read_text())):
                if key != self.key.public:
                    trust = trust.adding(Author(key, f"agent {number}"))
            self.bank.set_trust(seal(TRUST, trust.to_payload(), self.key))
        self.link = ZenohLink(ZenohSettings(listen=(listen,), connect=tuple(connect)))
        holdings = BankHoldings(self.bank, BACKBONE)
        self.exchange = Exchange(self.key.public, holdings, random.Random())  # noqa: S311 - no secret
        self.driver = Driver(self.exchange, holdings, self.link)
        own = [
            stored.manifest.task
            for stored in self.bank.modules()
            if stored.manifest.author == self.key.public
        ]
        self.next = 1 + max((int(task.rsplit("-", 1)[1]) for task in own), default=-1)

    def run(self) -> None:
        """Until the input ends or says "quit"."""
        self.driver.start()
        say("ready", endpoints=self.link.endpoints)
        try:
            for line in sys.stdin:
                order, *words = line.split()
                serial = next((int(word[7:]) for word in words if word.startswith("serial=")), None)
                if order == "quit":
                    break
                if order == "add":
                    self.add(int(words[0]))
                elif order == "state":
                    say("state", serial=serial, **self.state())
                elif order == "ids":
                    ids = self.bank.ids()
                    say("ids", serial=serial, ids=sorted(ids), digest=digest(ids))
                elif order == "think-begin":
                    self.thinking = Thinking()
                elif order == "think-end":
                    say("think-end", serial=serial, ms=self.thinking.end())
        finally:
            self.driver.stop()
            self.bank.close()

    def add(self, count: int) -> None:
        """Make, store durably, acknowledge, share."""
        from stolon.sharing.module import pack

        for _ in range(count):
            id_ = self.bank.add(pack(synthetic_module(self.key.public, self.next), self.key))
            self.next += 1
            say("added", id=id_)
            self.driver.changed()

    def state(self) -> dict[str, Any]:
        """For comparison with others."""
        ids = self.bank.ids()
        peers = [peer.id for peer in self.exchange.peers(time.monotonic()) if peer.linked]
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        sent, received = self.exchange.traffic()
        return {
            "digest": digest(ids),
            "count": len(ids),
            "peers": peers,
            "memory": memory,
            "sent": vars(sent),
            "received": vars(received),
            "damaged": len(self.bank.damaged()),
        }


class Thinking(threading.Thread):
    """Small predictions, one every 10 ms, beside everything else; :meth:`end` gives the milliseconds of each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._is_over = threading.Event()
        self._took: list[float] = []
        self.start()

    def run(self) -> None:
        """Think until :meth:`end`."""
        import torch

        torch.set_num_threads(1)
        features, weights = torch.ones(32, WIDTH), torch.ones(WIDTH, 50 * CLASSES)
        while not self._is_over.wait(0.01):
            began = time.perf_counter()
            for _ in range(4):
                (features @ weights).softmax(1).max(1)
            self._took.append((time.perf_counter() - began) * 1000)

    def end(self) -> list[float]:
        """Stop."""
        self._is_over.set()
        self.join()
        return self._took


def digest(ids: Iterable[str]) -> str:
    """Equal for equal sets."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def say(word: str, **more: object) -> None:
    """One line of JSON, at once."""
    sys.stdout.write(json.dumps({"said": word, **more}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("roster", type=Path)
    parser.add_argument("listen")
    parser.add_argument("connect", nargs="*")
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(name)s %(levelname)s %(message)s", level=logging.INFO)
    Worker(given.folder, given.roster, given.listen, given.connect).run()
