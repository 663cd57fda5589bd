"""Do all agents end up with the same modules, whatever happens to messages, machines and peers? (T9).

Each seed is one story: 16 honest agents that learn 160 modules between them while messages are lost, repeated and
overtaken, groups are cut off, agents are killed and put back to old copies, and up to 8 hostile agents do what they
can. Then the cuts end; the losses and the hostile agents stay. Fake time, one thread; any seed replays.
"""

# ruff: noqa: S311 - nothing here is a secret
import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.exchange_liars import pick
from benchmarks.exchange_world import ROUND_S, Agent, Stand, World, make

FAULTS_S = 20.0
"""How long cuts, kills and old copies go on, and modules are made."""
STEP_S = 0.25
LIMIT_ROUNDS = 2000
ROUNDS_AT_20 = 30


@dataclass(frozen=True)
class Outcome:
    """How a story ended.

    Attributes:
        seed: which one.
        loss: share of messages lost each way.
        liars: hostile agents, by kind.
        rounds: after the last cut was healed until all honest agents were equal; None: never.
        is_whole: they hold everything that any of them held when the last fault was over, and nothing that none
            of them ever made. (What was on its way then may have been saved from an agent put back to an old copy.)
        events: things that happened.
        trace: digest over all messages that arrived.
        seconds: of processor time.
    """

    seed: int
    loss: float
    liars: tuple[str, ...]
    rounds: float | None
    is_whole: bool
    events: int
    trace: str
    seconds: float = 0.0


def tell(
    seed: int, *, agents: int = 16, modules: int = 160, most_liars: int = 8, loss: float | None = None
) -> Outcome:
    """One story."""
    rng = random.Random(f"story {seed}")
    if loss is None:
        loss = rng.choice((0.0, 0.0, 0.05, 0.1, 0.2, 0.2, 0.2, 0.3, 0.3, 0.5))
    repeat, slow_s = rng.choice((0.0, 0.02, 0.2)), rng.choice((0.01, 0.05, 0.2))
    world = World(seed, loss=loss, repeat=repeat, slow_s=slow_s)
    for number in range(agents):
        world.add(number, Stand())
    liars = pick(rng, rng.randint(0, most_liars))
    for number, kind in enumerate(liars, start=agents):
        world.add_liar(kind(world, number))
    for number in range(modules):
        learner = rng.randrange(agents)
        at = 0.0 if rng.random() < 0.3 else rng.uniform(0, FAULTS_S)
        world.at(at, learn, world, learner, number, rng.getrandbits(64))
    plan_cuts(world, rng)
    plan_kills(world, rng)
    world.run(FAULTS_S)
    expected = frozenset().union(*(agent.holdings.ids() for agent in world.agents.values()))
    rounds = settle(world)
    expected |= {id_ for id_, t in world.made.items() if t > FAULTS_S}  # by agents that had just come back
    return Outcome(
        seed=seed,
        loss=loss,
        liars=tuple(kind.__name__ for kind in liars),
        rounds=rounds,
        is_whole=all(
            expected <= agent.holdings.ids() <= world.made.keys() for agent in world.agents.values()
        ),
        events=world.events,
        trace=world.trace.hexdigest(),
    )


def learn(world: World, learner: int, number: int, seed: int) -> None:
    """An agent makes a module, if it runs."""
    agent = world.agents[learner]
    if agent.exchange is None:
        world.at(world.t + 1.0, learn, world, learner, number, seed)
        return
    rng = random.Random(seed)
    size = rng.choice((600_000, 20_000)) if number % 40 == 0 else rng.randrange(1, 2000)
    blobs = [rng.randbytes(size) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    envelope, content = make(b"M", b"L%03d" % learner, number, blobs)
    id_ = agent.holdings.commit(envelope, content)
    world.made[id_] = world.t
    world.changed(agent)


def plan_cuts(world: World, rng: random.Random) -> None:
    """Up to three times, groups are cut off from each other; hostile agents reach everybody's group in turn."""
    for _ in range(rng.randint(0, 3)):
        begin = rng.uniform(0, FAULTS_S * 0.8)
        everybody = [*world.agents, *world.liars]
        groups = {n: rng.randrange(rng.choice((2, 3))) for n in everybody}
        world.at(begin, cut, world, groups)
        world.at(begin + rng.uniform(1, FAULTS_S * 0.2), cut, world, {})


def cut(world: World, groups: dict[int, int]) -> None:
    """Let the groups see themselves only."""
    world.groups = groups
    world.see()


def plan_kills(world: World, rng: random.Random) -> None:
    """Some agents are killed and start again, some of them with what they held long before."""
    for agent in world.agents.values():
        if rng.random() < 0.4:
            begin = rng.uniform(0, FAULTS_S * 0.8)
            old = rng.random() < 0.5
            copies: list[Stand] = []
            if old:
                world.at(begin * rng.random(), lambda a, c: c.append(a.holdings.copy()), agent, copies)
            world.at(begin, world.stop, agent)
            world.at(begin + rng.uniform(0, FAULTS_S * 0.2), again, world, agent, copies)


def again(world: World, agent: Agent, copies: list[Stand]) -> None:
    """An agent starts again, with its bank or an old copy of it."""
    if copies:
        agent.holdings = copies[0]
    world.start(agent)


def settle(world: World) -> float | None:
    """Rounds until all honest agents hold the same."""
    begin = world.t
    while world.t < begin + LIMIT_ROUNDS * ROUND_S:
        if len({agent.holdings.ids() for agent in world.agents.values()}) == 1:
            return (world.t - begin) / ROUND_S
        world.run(world.t + STEP_S)
    return None


def summary(outcomes: list[Outcome]) -> dict:
    """What is written down."""
    by_loss: dict[str, list[float]] = {}
    for one in outcomes:
        by_loss.setdefault(f"{one.loss:.2f}", []).append(float("inf") if one.rounds is None else one.rounds)
    kinds = Counter(kind for one in outcomes for kind in one.liars)
    return {
        "seeds": len(outcomes),
        "never_equal": [one.seed for one in outcomes if one.rounds is None],
        "not_whole": [one.seed for one in outcomes if not one.is_whole],
        "rounds_after_heal": {
            loss: {
                "stories": len(rounds),
                "median": sorted(rounds)[len(rounds) // 2],
                "95_percent": sorted(rounds)[int(0.95 * len(rounds))],
                "most": max(rounds),
                "above_30": sum(one > ROUNDS_AT_20 for one in rounds),
            }
            for loss, rounds in sorted(by_loss.items())
        },
        "goal_most_rounds_at_0.20": ROUNDS_AT_20,
        "stories_with_liars": dict(sorted(kinds.items())),
        "events": sum(one.events for one in outcomes),
        "processor_seconds": round(sum(one.seconds for one in outcomes), 1),
    }


def main() -> None:
    """Run many stories."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--agents", type=int, default=16)
    parser.add_argument("--modules", type=int, default=160)
    parser.add_argument(
        "--log", type=Path, help="a line for each story; stories found in it are not told again"
    )
    parser.add_argument("--keep", action="store_true", help="do not write the results file")
    args = parser.parse_args()
    done = read(args.log)
    outcomes = []
    for seed in range(args.first, args.first + args.seeds):
        outcome = done.get(seed)
        if outcome is None:
            begin = time.process_time()
            outcome = tell(seed, agents=args.agents, modules=args.modules)
            outcome = replace(outcome, seconds=round(time.process_time() - begin, 2))
            if args.log:
                with args.log.open("a") as log:
                    log.write(json.dumps(asdict(outcome)) + "\n")
        outcomes.append(outcome)
        if outcome.rounds is None or not outcome.is_whole or args.keep or seed % 50 == 0:
            print(outcome, flush=True)
    figures = summary(outcomes)
    print(json.dumps(figures, indent=1))
    if not args.keep:
        from results import write

        write("exchange_simulation", figures)


def read(log: Path | None) -> dict[int, Outcome]:
    """Stories that were told before."""
    if log is None or not log.exists():
        return {}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {row["seed"]: Outcome(**{**row, "liars": tuple(row["liars"])}) for row in rows}


if __name__ == "__main__":
    main()
