"""How mappers and traffic grow with tasks and agents: synthetic anchors, 10 to 10,000 tasks, up to 1,000 agents.

    nice -n 10 python benchmarks/skill_scale.py [--tasks 10 100 1000 10000] [--worlds spread crowded] [--seed 0]
    python benchmarks/skill_scale.py --features DIR      # what the synthetic tasks imitate, measured anew

The mapper part is stolon.experiments.skill_scale: the flat Gaussian mapper is the two-level one's naive twin, asked
about the same inputs (beyond 1,000 tasks the flat formula over the same parts, since the flat class would need 20 GB).
Traffic up to 64 agents is simulated: real exchange engines in fake time (exchange_world.py) over lossless links, each
agent teaching 4 tasks; the bytes are those that the engines count. Beyond, the formula
received = T (1 - 1/N) (module + overhead), with an overhead for each peer that is fitted to the simulations, and
checked against one of 128 agents. Writes benchmarks/results/skill_scale.json and skill_traffic.json.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from exchange_world import Stand, World, make
from feature_sets import load
from results import write

from stolon.experiments.skill_scale import Geometry, Traffic, grow
from stolon.light.anchors import fit_gaussian
from stolon.light.mappers import GaussianMapper
from stolon.light.mappers.two_level import TwoLevelMapper
from stolon.sharing.limits import MAX_PEERS

DIMENSIONS = 1280
ENVELOPE, FILES = 2_000, (35_000, 44_000)  # a Gaussian module's, compact, mean of 18 folders (module_size.py)
SIMULATED = (2, 4, 8, 16, 32, 64)
PER_AGENT = 4
PREDICTED = ((64, 256), (128, 1_000), (256, 1_000), (1_000, 1_000), (1_000, 10_000))


def simulate(agents: int, seed: int, per_agent: int = PER_AGENT) -> dict:
    """Every agent teaches some tasks at the same time; until all banks are equal."""
    world = World(seed)
    size = sum(FILES)
    for number in range(agents):
        stand = Stand()
        for task in range(per_agent):
            blobs = [bytes([number, task]) + bytes(length - 2) for length in FILES]
            envelope, found = make(b"M", b"L%03d" % number, task, blobs)
            assert isinstance(stand.commit(envelope, found), str)
        world.add(number, stand)
    tasks = agents * per_agent
    while any(len(agent.holdings.ids()) < tasks for agent in world.agents.values()):
        world.run(world.t + 0.25)
        assert world.t < 600, "not equal after ten minutes"
    equal_s = world.t
    traffic = [agent.exchange.traffic() for agent in world.agents.values()]
    received = sum(down.total for _, down in traffic) / agents
    envelope_bytes = len(envelope)
    own = (tasks - per_agent) * (size + envelope_bytes)
    world.run(equal_s + 60)
    later = [agent.exchange.traffic() for agent in world.agents.values()]
    idle = (sum(down.total for _, down in later) / agents - received) / 60
    return {
        "agents": agents,
        "tasks": tasks,
        "module_bytes": size + envelope_bytes,
        "modules_received": own,
        "received": received,
        "overhead_share": received / own - 1,
        "overhead_per_module": (received - own) / (tasks - per_agent),
        "idle_bytes_per_s": idle,
        "equal_after_s": equal_s,
    }


def measured(folder: Path) -> None:
    """Traces and effective ranks of real features: what Geometry imitates."""
    middles, around, away = [], [], []
    for part in load(folder, 0).values():
        anchor = fit_gaussian(part["x"])
        x = torch.nn.functional.normalize(part["x"], dim=1)
        middles.append(anchor.weights @ anchor.means)
        away.append(anchor.means - middles[-1])
        around.append((x - anchor.means[torch.cdist(x, anchor.means).argmin(1)])[:300])
    middles = torch.stack(middles)
    print(f"{len(middles)} sets; length of their middle {float(middles.mean(0).norm()):.3f}")
    rows = {"task": [middles - middles.mean(0)], "component": away, "input": around}
    for name, parts in rows.items():
        each = torch.stack([p.square().sum(1).mean() for p in parts])
        r = torch.cat(parts)
        values = torch.linalg.svdvals(r).square() / len(r)
        print(
            f"{name}: trace {float(values.sum()):.3f}, effective rank "
            f"{float(values.sum() ** 2 / values.square().sum()):.0f} of {len(r)} rows, "
            f"a set's own {float(each.min()):.3f} to {float(each.max()):.3f}"
        )


def real(folder: Path) -> None:
    """Two levels on real features: every four classes of a set are a task of their own, so that many are alike."""
    anchors, x = {}, []
    for name, part in all_parts(folder):
        for first in range(0, int(part["train_y"].max()) + 1, 4):
            mine = (part["train_y"] >= first) & (part["train_y"] < first + 4)
            asked = (part["test_y"] >= first) & (part["test_y"] < first + 4)
            if int(mine.sum()) >= 40:
                anchors[f"{name} {first:03d}"] = fit_gaussian(part["train_x"][mine])
                x.append(part["test_x"][asked])
    owner = torch.cat([torch.full((len(rows),), t) for t, rows in enumerate(x)])
    x = torch.cat(x)
    flat, two = GaussianMapper(anchors), TwoLevelMapper(anchors)
    truth, found = flat.scores(x).argmax(1), two.estimates(x).argmax(1)
    visited = two.visited(x).float()
    equal = float((truth == found).float().mean())
    right, proven = float((truth == owner).float().mean()), float(two.proven(x).float().mean())
    print(
        f"{len(anchors)} tasks of four real classes, {len(x)} inputs: two levels visit {float(visited.mean()):.0f} "
        f"tasks (median {float(visited.median()):.0f}), {100 * equal:.2f} % equal, mapper accuracy {right:.3f}, "
        f"{100 * proven:.1f} % proven"
    )


def all_parts(folder: Path):
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            yield path.stem, {key: torch.from_numpy(file[key]) for key in file.files}


def traffic(seed: int) -> dict:
    """Simulated up to 128 agents, by formula beyond.

    What comes on top of a module grows with the number of peers, as each tells of every change: overhead = slope x
    peers, by least squares; no agent has more than 64 peers. The formula is checked against all simulations, and
    against one of 128 agents that had no part in the slope.
    """
    simulated = [simulate(agents, seed) for agents in SIMULATED]
    apart = simulate(128, seed, per_agent=1)
    for row in (*simulated, apart):
        print(
            f"{row['agents']} agents, {row['tasks']} tasks: {row['received'] / 1e6:.2f} MB received by each, "
            f"{100 * row['overhead_share']:.2f} % over the modules, {row['idle_bytes_per_s']:.0f} B/s when equal",
            flush=True,
        )
    peers = [min(row["agents"] - 1, MAX_PEERS) for row in simulated]
    slope = sum(p * row["overhead_per_module"] for p, row in zip(peers, simulated, strict=True)) / sum(
        p * p for p in peers
    )
    module = simulated[0]["module_bytes"]

    def formula(agents: int, tasks: int) -> Traffic:
        return Traffic(agents, tasks, module, slope * min(agents - 1, MAX_PEERS))

    errors = {
        row["agents"]: formula(row["agents"], row["tasks"]).received / row["received"] - 1
        for row in (*simulated, apart)
    }
    predicted = []
    for agents, tasks in PREDICTED:
        made = formula(agents, tasks)
        predicted.append({"agents": agents, "tasks": tasks, "received": made.received, "total": made.total})
        print(f"formula: {agents} agents, {tasks} tasks: {made.received / 1e6:.1f} MB each", flush=True)
    print(f"formula less simulation: {errors}")
    return {
        "traffic_simulated": [*simulated, apart],
        "traffic_overhead_per_peer": slope,
        "traffic_formula_errors": errors,
        "traffic_by_formula": predicted,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, nargs="*", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--worlds", nargs="+", default=["spread", "crowded"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-traffic", action="store_true")
    parser.add_argument("--features", type=Path, help="only measure these real features")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.features is not None:
        measured(args.features)
        real(args.features)
        return
    if not args.no_traffic:
        write("skill_traffic", {"seed": args.seed, **traffic(args.seed)})
    figures = {"seed": args.seed, "dimensions": DIMENSIONS, "seconds": "of the processor, one thread"}
    geometry = Geometry.measured(DIMENSIONS, args.seed)
    figures["mappers"] = rows = []
    for tasks in args.tasks:  # ascending: the peak of memory only ever rises
        for world in args.worlds:
            row = grow(tasks, geometry, world, seed=args.seed)
            rows.append(dataclasses.asdict(row))
            print(
                f"{tasks} tasks, {world}: flat {1e3 * row.flat_s:.1f} ms one by one, {1e3 * row.flat_batch_s:.2f} in "
                f"batches; two levels {1e3 * row.s:.1f} (slowest {1e3 * row.slow_s:.1f}), {1e3 * row.batch_s:.2f}; "
                f"made in {row.build_s:.1f} s, {row.bytes / 1e6:.0f} MB; visited {row.visited:.0f}; equal "
                f"{100 * row.equal:.2f} %; accuracy {row.accuracy:.3f}; peak {row.peak_bytes / 1e9:.1f} GB",
                flush=True,
            )
            write("skill_scale", figures)


if __name__ == "__main__":
    main()
