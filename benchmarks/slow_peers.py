"""Stopped, slow, flooding and mute peers: do the others get on?

    python benchmarks/slow_peers.py

Eight real processes over Zenoh, every link through a proxy. Quietly first, then with one of them in trouble, the
other seven add modules and must be equal again; meanwhile small predictions run in one of them.

1. stopped: SIGSTOP, so that its connections stay open and nothing reads. 2. slow: every link of it has 64 kB/s.
3. flooder: it is replaced by benchmarks/flooder.py. Promise (reliability.md, T12): the others need at most 1.5
times as long as when quiet, predictions at most 50 ms more at the 95th percentile, memory at most 100 MB more.
4. dead: all connections of one agent carry keep-alives only. Promise (T13): it opens its link anew within 15 s and
gets what was added meanwhile. 5. mute: endpoints accept and never answer for 20 s. Promise: equal within 15 s after.

Writes benchmarks/results/slow_peers.json.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import agents
from fleet import Agent, Fleet, wait_until

RATE = 64_000
SLOWER, LATER_MS, MORE_MB = 1.5, 50.0, 100.0
REOPEN_S = EQUAL_S = 15.0
ROUNDS = 5


def measure(fleet: Fleet, others: list[int], *, rounds: int, each: int) -> dict[str, Any]:
    """Let the others add, a few times; how long until they are equal, how long predictions take, what memory."""
    thinker = fleet.agents[others[0]]
    took = []
    thinker.tell("think-begin")
    for _ in range(rounds):
        wanted = len(fleet.added()) + each * len(others)
        began = time.monotonic()
        for number in others:
            fleet.agents[number].add(each)
        wait_until(lambda: len(fleet.added()) >= wanted, 30)  # noqa: B023 - called at once
        equal = fleet.until_equal(60, others)
        took.append(time.monotonic() - began if equal is not None else None)
    thought = thinker.ask("think-end")
    memory = [state["memory"] for number in others if (state := fleet.agents[number].ask("state"))]
    return {
        "seconds": took,
        "median_s": statistics.median(value if value is not None else 60.0 for value in took),
        "predictions_p95_ms": sorted(thought["ms"])[int(0.95 * len(thought["ms"]))] if thought else None,
        "predictions": len(thought["ms"]) if thought else 0,
        "memory_mb": max(memory) / 1e6,
    }


def judge(quiet: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The figures beside the promise."""
    slower = found["median_s"] / quiet["median_s"]
    later = found["predictions_p95_ms"] - quiet["predictions_p95_ms"]
    more = found["memory_mb"] - quiet["memory_mb"]
    holds = {"time": slower <= SLOWER, "predictions": later <= LATER_MS, "memory": more <= MORE_MB}
    return {
        **found,
        "times_as_long": slower,
        "later_ms": later,
        "more_mb": more,
        "failures": holds_not(holds),
    }


def holds_not(holds: dict[str, bool]) -> list[str]:
    """Names of promises that were not kept."""
    return [name for name, kept in holds.items() if not kept]


def slow_ones(fleet: Fleet, rounds: int, each: int) -> dict[str, Any]:
    """Stopped, slow and flooding, in turn, beside quiet."""
    last = len(fleet.agents) - 1
    others = list(range(last))
    victim = fleet.agents[last]
    found: dict[str, Any] = {}
    measure(fleet, others, rounds=2, each=each)  # warms up: the first use of everything is slower
    quiet = found["quiet"] = measure(fleet, others, rounds=rounds, each=each)
    print("quiet", quiet, flush=True)

    victim.signal(signal.SIGSTOP)
    found["stopped"] = judge(quiet, measure(fleet, others, rounds=rounds, each=each))
    victim.signal(signal.SIGCONT)
    found["stopped"]["back_s"] = fleet.until_equal(60)
    print("stopped", found["stopped"], flush=True)

    for proxy in fleet.between([last]):
        proxy.cut()
    for proxy in fleet.between([last]):
        proxy.heal()
        proxy.throttle(RATE)
    fleet.until_all_see_all(60)
    found["slow"] = judge(quiet, measure(fleet, others, rounds=rounds, each=each))
    found["slow"]["has_all_s"] = fleet.until_equal(120)
    print("slow", found["slow"], flush=True)

    for proxy in fleet.between([last]):
        proxy.heal()
    victim.quit()
    places = [f"tcp/127.0.0.1:{agent.port}" for agent in fleet.agents[:last]]
    command = [
        sys.executable,
        str(Path(__file__).with_name("flooder.py")),
        str(victim.folder / "key"),
        str(victim.roster),
    ]
    with subprocess.Popen(
        [*command, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as flooder:
        assert flooder.stdout is not None
        flooder.stdout.readline()
        time.sleep(1)
        found["flooder"] = judge(quiet, measure(fleet, others, rounds=rounds, each=each))
        flooder.kill()
    print("flooder", found["flooder"], flush=True)
    victim.start()
    victim.wait_for("ready", 60)
    found["flooder"]["back_s"] = fleet.until_equal(60)
    return found


def openings(agent: Agent) -> int:
    """How often its link was opened, by its log."""
    return (agent.folder / "log.txt").read_text().count("link open")


def dead(fleet: Fleet, number: int) -> dict[str, Any]:
    """One agent's connections carry keep-alives only, until it opens its link anew."""
    victim = fleet.agents[number]
    fleet.until_all_see_all(60)
    before = openings(victim)
    for proxy in fleet.between([number]):
        proxy.starve()
    began = time.monotonic()
    for agent in fleet.agents:
        agent.add(1)
    wait_until(lambda: openings(victim) > before, 60)
    reopened = time.monotonic() - began if openings(victim) > before else None
    equal = fleet.until_equal(60)
    seconds = time.monotonic() - began if equal is not None else None
    for proxy in fleet.between([number]):
        proxy.heal()
    holds = {"reopened": reopened is not None and reopened <= REOPEN_S, "goes on": equal is not None}
    return {"reopened_s": reopened, "equal_s": seconds, "failures": holds_not(holds)}


def mute(fleet: Fleet, number: int, seconds: float) -> dict[str, Any]:
    """One agent's endpoints accept and never answer."""
    fleet.until_all_see_all(60)
    for proxy in fleet.between([number]):
        proxy.hold()
    ends = time.monotonic() + seconds
    for agent in fleet.agents:
        agent.add(1)
    others = [agent.number for agent in fleet.agents if agent.number != number]
    others_equal = fleet.until_equal(seconds, others)
    time.sleep(max(0.0, ends - time.monotonic()))
    was_alone = len({state["digest"] for state in fleet.states()}) == 2  # without that nothing was tested
    for proxy in fleet.between([number]):
        proxy.heal()
    equal = fleet.until_equal(60)
    holds = {
        "was alone": was_alone,
        "others": others_equal is not None,
        "equal": equal is not None and equal <= EQUAL_S,
    }
    return {"others_equal_s": others_equal, "equal_s": equal, "failures": holds_not(holds)}


def main() -> None:
    import results

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--each", type=int, default=5, help="modules that each adds in a round")
    parser.add_argument("--trials", type=int, default=5, help="of dead and mute")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Fleet(given.agents, Path(folder), seed=given.seed) as fleet:
        fleet.start()
        found = slow_ones(fleet, given.rounds, given.each)
        found["dead"] = [dead(fleet, number % given.agents) for number in range(given.trials)]
        print("dead", found["dead"], flush=True)
        found["mute"] = [mute(fleet, number % given.agents, 20.0) for number in range(given.trials)]
        print("mute", found["mute"], flush=True)
    singles = [found[name] for name in ("stopped", "slow", "flooder")]
    results.write(
        "slow_peers",
        {
            "fault": f"one of {given.agents} agents stopped, at {RATE} bytes/s, flooding, dead but visible, mute",
            "promise": f"others at most {SLOWER} x as long, predictions +{LATER_MS:g} ms at p95, memory "
            f"+{MORE_MB:g} MB; dead: opened anew within {REOPEN_S:g} s; mute: equal within {EQUAL_S:g} s after",
            "trials": len(singles) + 2 * given.trials,
            "failures": sum(bool(one["failures"]) for one in [*singles, *found["dead"], *found["mute"]]),
            "module_bytes": 60_409,
            "width": agents.WIDTH,
            "seed": given.seed,
            **found,
        },
    )


if __name__ == "__main__":
    main()
