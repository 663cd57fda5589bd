"""Kill and restart agents at random while all of them add and share: is anything lost or damaged?

    python benchmarks/chaos.py --minutes 5

Eight real processes over Zenoh, every link through a proxy. Every 3 s one that runs is killed (SIGKILL), at any
moment; it starts again a few seconds later. All that run add modules all the time; a module counts as acknowledged
once its agent said so, after it was durable. Promise: no bank is damaged, no acknowledged module is missing
anywhere, and all are equal within 30 s after the last one was started again.

Writes benchmarks/results/chaos.json.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from fleet import Fleet

PROMISE_S = 30.0
WAIT_S = 120.0


def storm(
    fleet: Fleet, rng: random.Random, *, seconds: float, every_s: float, down_s: float
) -> dict[str, Any]:
    """Kill, restart and add for so long; then start all, and look.

    Returns:
        kills, acknowledged, and after the storm: seconds until equal (None: never), missing and damaged modules.
    """
    ends = time.monotonic() + seconds
    next_kill = time.monotonic() + every_s
    back_at: dict[int, float] = {}
    kills = adding = 0
    while time.monotonic() < ends:
        now = time.monotonic()
        for agent in fleet.agents:
            if not agent.is_running and back_at.get(agent.number, 0.0) <= now:
                agent.start()
        if now >= next_kill:
            next_kill = now + every_s
            running = [agent for agent in fleet.agents if agent.is_running]
            # Each is killed while it adds, which is when it hurts, and so that its last words may be cut off.
            victim = rng.choice(running)
            victim.add(3)
            time.sleep(rng.uniform(0, 0.1))
            victim.kill()
            back_at[victim.number] = time.monotonic() + rng.uniform(0, down_s)
            kills += 1
        chosen = rng.choice(fleet.agents)
        if chosen.is_running:
            chosen.add(1)
            adding += 1
        time.sleep(0.25)
    for agent in fleet.agents:
        if not agent.is_running:
            agent.start()
    for agent in fleet.agents:
        agent.wait_for("ready", 60)
    equal_s = fleet.until_equal(WAIT_S)
    held = [set(answer["ids"]) if (answer := agent.ask("ids")) else set() for agent in fleet.agents]
    acknowledged = fleet.added()
    return {
        "kills": kills,
        "orders_to_add": adding + 3 * kills,
        "acknowledged": len(acknowledged),
        "seconds_until_equal": equal_s,
        "missing": len(acknowledged - set.intersection(*held)),
        "damaged_while_running": sum(state["damaged"] for state in fleet.states()),
        "held": len(held[0]),
    }


def damaged_on_disk(fleet: Fleet) -> int:
    """Modules that do not pass when each bank is opened anew and everything is hashed; after the agents' end."""
    from stolon.sharing.bank import Bank

    found = 0
    for agent in fleet.agents:
        with Bank(agent.folder / "bank") as bank:
            found += len(bank.check()) + len(bank.damaged())
    return found


def main() -> None:
    import results

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)  # noqa: S311 - no secret
    with tempfile.TemporaryDirectory() as folder:
        with Fleet(given.agents, Path(folder), seed=given.seed) as fleet:
            fleet.start()
            figures = storm(fleet, rng, seconds=60 * given.minutes, every_s=given.every, down_s=given.every)
        figures["damaged_on_disk"] = damaged_on_disk(fleet)
    equal_s = figures["seconds_until_equal"]
    failures = {
        "equal": equal_s is None or equal_s > PROMISE_S,
        "missing": figures["missing"] > 0,
        "damaged": figures["damaged_on_disk"] + figures["damaged_while_running"] > 0,
    }
    print(figures, failures)
    results.write(
        "chaos",
        {
            "fault": f"SIGKILL of a random one of {given.agents} agents every {given.every:g} s for "
            f"{given.minutes:g} minutes, while all add and share",
            "promise": f"no damaged bank, no acknowledged module missing, all equal within {PROMISE_S:g} s after",
            "trials": figures["kills"],
            "failures": sum(failures.values()),
            "seed": given.seed,
            **figures,
        },
    )


if __name__ == "__main__":
    main()
