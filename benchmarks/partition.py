"""Split a network of agents in two, let both sides learn, heal it: are all banks equal soon after?

    python benchmarks/partition.py --repeats 20

Eight real processes over Zenoh, every link through a proxy. Four and four, chosen at random, are separated for
30 s, in turn by reset connections and by silence (a cable pulled). Ten modules are added on each side. Promise:
within 15 s after the healing all eight hold the same set, and every module that was acknowledged is in it.

Writes benchmarks/results/partition.json.
"""

import argparse
import random
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fleet import Fleet

PROMISE_S = 15.0
WAIT_S = 90.0
"""How long a repeat that has failed is watched, to tell late from never."""


@dataclass
class Repeat:
    """One split and healing.

    Attributes:
        by: "reset" or "silence".
        sides_equal: during the split, each side agreed within itself.
        sides_differ: and the two did not agree with each other; without that nothing was tested.
        seconds: from the healing until all were equal; None where that never came.
        modules: that all hold in the end.
        stall_s: the longest that this process, all proxies with it, was not given a processor meanwhile: on a machine
            that others keep busy, seconds are not the agents' alone.
    """

    by: str
    sides_equal: bool
    sides_differ: bool
    seconds: float | None
    modules: int
    stall_s: float

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return (
            self.sides_equal and self.sides_differ and self.seconds is not None and self.seconds <= PROMISE_S
        )


def split_and_heal(fleet: Fleet, rng: random.Random, *, by: str, split_s: float, modules: int) -> Repeat:
    """One repeat, on a fleet whose agents are equal and see each other."""
    numbers = list(range(len(fleet.agents)))
    rng.shuffle(numbers)
    sides = numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]
    cables = fleet.between(sides[0])
    before = len(fleet.added())
    stalls = Stalls()
    for proxy in cables:
        (proxy.cut if by == "reset" else proxy.hold)()
    ends = time.monotonic() + split_s
    for side in sides:
        for _ in range(modules):
            fleet.agents[rng.choice(side)].add(1)
            time.sleep(min(0.5, split_s / (4 * modules)))
    sides_equal = all(
        fleet.until_equal(max(1.0, ends - time.monotonic()), side) is not None for side in sides
    )
    time.sleep(max(0.0, ends - time.monotonic()))
    states = fleet.states()
    sides_differ = len({state["digest"] for state in states}) == 2
    for proxy in cables:
        proxy.heal()
    seconds = fleet.until_equal(WAIT_S)
    all_added = len(fleet.added()) == before + 2 * modules
    return Repeat(
        by, sides_equal, sides_differ and all_added, seconds, fleet.states()[0]["count"], stalls.longest()
    )


class Stalls(threading.Thread):
    """Notes how late a short sleep ends."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._longest = 0.0
        self._is_over = False
        self.start()

    def run(self) -> None:
        """Until :meth:`longest`."""
        while not self._is_over:
            began = time.monotonic()
            time.sleep(0.05)
            self._longest = max(self._longest, time.monotonic() - began - 0.05)

    def longest(self) -> float:
        """Seconds; ends the thread."""
        self._is_over = True
        return self._longest


def main() -> None:
    import results

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--split", type=float, default=30.0, help="seconds")
    parser.add_argument("--modules", type=int, default=10, help="added on each side")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)  # noqa: S311 - no secret
    repeats: list[Repeat] = []
    with tempfile.TemporaryDirectory() as folder, Fleet(given.agents, Path(folder), seed=given.seed) as fleet:
        fleet.start()
        for number in range(given.repeats):
            fleet.until_all_see_all(60)
            by = ("reset", "silence")[number % 2]
            repeats.append(split_and_heal(fleet, rng, by=by, split_s=given.split, modules=given.modules))
            print(number, repeats[-1], "ok" if repeats[-1].holds else "FAILED", flush=True)
        memory = max(state["memory"] for state in fleet.states())
    results.write(
        "partition",
        {
            "fault": f"{given.agents} processes split in two halves for {given.split:g} s, {given.modules} modules "
            "added on each side, healed",
            "promise": f"all equal within {PROMISE_S:g} s, nothing acknowledged missing",
            "trials": len(repeats),
            "failures": sum(not repeat.holds for repeat in repeats),
            "longest_s": max((repeat.seconds or WAIT_S for repeat in repeats), default=None),
            "largest_memory_mb": round(memory / 1e6),
            "seed": given.seed,
            "repeats": [asdict(repeat) for repeat in repeats],
        },
    )


if __name__ == "__main__":
    main()
