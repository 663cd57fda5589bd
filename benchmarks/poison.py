"""Hostile anchors against activation, on real features: T16 of the reliability design.

    python benchmarks/poison.py --features DIR [--parts attacks newcomers populations duplicates orders]
                                               [--dimensions 320]

DIR holds NAME.npz as benchmarks/features.py makes them. All anchors take the way that modules take: packed in the
compact form and read back. "Taken" is counted on test features, which neither the gate nor the attacker saw: the
share of a task's test features that the agent answers rightly without the attack, and that go to a hostile
task with it. Writes benchmarks/results/poison.json.
"""

# ruff: noqa: D102, S311 - a script's class; shuffling needs no secrets

import argparse
import json
import random
import time
from functools import cache, lru_cache
from pathlib import Path

import torch
from mapper_accuracy import NOT_FOLDERS, load
from poison_attacks import ATTACKS
from results import FOLDER, provenance, write

from stolon.light.anchoring import Anchoring
from stolon.light.answering import TaskKnowledge
from stolon.light.probes import choose
from stolon.randomness import generator, permutation
from stolon.sharing.activation import Activation, Candidate, activate
from stolon.sharing.lightweight import knowledge, of_knowledge
from stolon.sharing.task_module import TaskModule

KINDS = ("mahalanobis", "gmm")
VICTIMS = ("brain_mri", "dtd10", "eurosat", "gtsrb", "pacs_art")
TOWN = (*VICTIMS, "asl_hands", "caltech101", "trashnet")
TEST = 150
SEEDS = 1
PUSHING = ("copy_all", "crowd", "swarm", "creep")
"""Attacks that are also tried by an author who is listed before all honest ones."""
AIMED = ("copy_one", "near_copy", "copy_all", "crowd", "inflated", "swarm")
"""Attacks that are also tried on a task that another agent taught; the others harm all tasks alike."""
PARTS = ("attacks", "newcomers", "populations", "duplicates", "orders")


class World:
    """All sets, and their anchors as they are sent."""

    def __init__(self, folder: Path, kind: str, seed: int, dimensions: int | None = None) -> None:
        self.sets, self.kind, self.seed = load(folder, seed), kind, seed
        if dimensions is not None:
            width = next(iter(self.sets.values()))["x"].shape[1]
            directions = torch.randn(width, dimensions, generator=generator(seed, "poison", "projection"))
            projection = torch.linalg.qr(directions).Q
            for part in self.sets.values():
                part.update({key: part[key] @ projection for key in ("x", "val", "test")})
        self.anchoring = Anchoring(kind, {})
        self.anchors = {name: self.fit(name, part) for name, part in self.sets.items()}

    def fit(self, name: str, part: dict, seed: int | None = None):
        seed = self.seed if seed is None else seed
        anchor = self.anchoring.fit(part["x"], part["y"], part["val"], seed, lambda _: None)
        classes = tuple(map(str, range(int(part["y"].max()) + 1)))
        width = part["x"].shape[1]
        own = TaskKnowledge(
            torch.zeros(len(classes), width), torch.zeros(len(classes)), torch.zeros(0), anchor
        )
        about = TaskModule("lightweight", name, classes, {}, "mobilenetv2", "0" * 64)
        return knowledge(of_knowledge(own, about, self.anchoring, "compact")).anchor

    def own(self, name: str, anchor=None, part: dict | None = None) -> Candidate:
        part = part or self.sets[name]
        labels = torch.zeros(len(part["val"]), dtype=torch.int64)
        probes = choose(part["val"], labels, self.seed) if len(labels) <= 32 else part["val"][:512].half()
        return Candidate("own " + name, name, "me", anchor or self.anchors[name], probes)

    def other(self, name: str, author: str | None = None, anchor=None) -> Candidate:
        return Candidate(name, name, author or f"author of {name}", anchor or self.anchors[name])

    def activate(self, own: list[Candidate], others: list[Candidate]) -> Activation:
        return activate(own, others, self.anchoring, lambda x: x)

    @cache  # noqa: B019 - there are two of these, which live to the end
    def test(self, name: str, most: int = TEST) -> torch.Tensor:
        x = self.sets[name]["test"]
        return x[permutation(len(x), 0, "poison", name)[:most]]


@lru_cache(40)
def answers(mapper, x: torch.Tensor) -> list[str | None]:
    """By task; kept, since the same mapper is asked about the same features after every attack."""
    return [mapper.tasks[t] if t >= 0 else None for t in mapper.map(x).tasks.tolist()]


@lru_cache(40)
def far_known(world: World, mapper) -> float:
    """Share called known of test features mirrored or shuffled, and random directions; none of the gate's."""
    x = torch.cat([world.test(name, 10) for name in TOWN])
    g = generator(1, "poison", "far")
    shuffled = x.gather(1, torch.rand(x.shape, generator=g).argsort(1))
    noise = torch.randn(x.shape, generator=g)
    return float(mapper.map(torch.cat([-x, shuffled, noise])).known.float().mean())


@lru_cache(40)
def new_known(world: World, mapper) -> float:
    """Share called known of features of six sets that nobody learned."""
    return float(mapper.map(torch.cat([world.test(n, 50) for n in sorted(NOT_FOLDERS)])).known.float().mean())


def harm(world: World, before, after, hostile: set[str], known: list[str], own: int = 3) -> dict:
    """What known tasks lose: the worst of them; the first of them are the agent's own."""
    taken, lost = {}, {}
    for name in known:
        x = world.test(name)
        mine, now = answers(before, x), answers(after, x)
        right = [b == name for b in mine]
        taken[name] = sum(r and a in hostile for r, a in zip(right, now, strict=True)) / len(x)
        lost[name] = sum(r and a != name for r, a in zip(right, now, strict=True)) / len(x)
    worst, most = max(taken, key=taken.get), max(lost, key=lost.get)
    return {
        "taken": taken[worst],
        "from": worst,
        "lost": lost[most],
        "lost_by": most,
        "taken_own": max(list(taken.values())[:own]),
        "far_known": far_known(world, after) - far_known(world, before),
        "new_known": new_known(world, after) - new_known(world, before),
    }


def attacks(world: World) -> list[dict]:
    rows = []
    for victim in VICTIMS:
        rest = [name for name in TOWN if name != victim]
        for own_names in ([victim, *rest[:2]], rest[:3]):
            own = [world.own(name) for name in own_names]
            honest = [world.other(name) for name in TOWN if name not in own_names]
            peace = world.activate(own, honest)
            for label, attack in ATTACKS.items():
                if victim not in own_names and label not in AIMED:
                    continue
                public = {name: world.anchors[name] for name in TOWN}
                hostile = attack(public, victim, generator(0, "poison", label, victim))
                bad = [Candidate(f"bad {name}", name, "mallory", a) for name, a in hostile.items()]
                first = victim in own_names and label in PUSHING
                for place in ("last", "first") if first else ("last",):
                    began = time.perf_counter()
                    found = world.activate(own, [*bad, *honest] if place == "first" else [*honest, *bad])
                    row = {
                        "kind": world.kind,
                        "attack": label,
                        "victim": victim,
                        "victim_is_own": victim in own_names,
                        "hostile_comes": place,
                        "seconds": time.perf_counter() - began,
                        "mappers": found.built,
                        "hostile": len(bad),
                        "hostile_active": sum(c.id in found.active for c in bad),
                        "honest_held": [c.id for c in honest if c.id in peace.active and c.id in found.held],
                        "reason": next((found.held[c.id] for c in bad if c.id in found.held), ""),
                    }
                    known = [*own_names, *(n for n in TOWN if n in peace.active and n in found.active)]
                    row["gate"] = harm(world, peace.mapper, found.mapper, set(hostile), known)
                    if label != "nan" and place == "last":
                        active = {c.name: c.anchor for c in [*own, *honest] if c.id in peace.active}
                        open_ = world.anchoring.mapper({**active, **hostile}, lambda x: x)
                        row["open"] = harm(world, peace.mapper, open_, set(hostile), known)
                    rows.append(row)
                    print(show(row), flush=True)
    return rows


def show(row: dict) -> str:
    def part(found: dict | None) -> str:
        return "-" if not found else (
            f"taken {found['taken']:.3f} ({found['from']}) lost {found['lost']:.3f} ({found['lost_by']}) "
            f"far {found['far_known']:+.3f} new {found['new_known']:+.3f}"
        )  # fmt: skip

    return (
        f"{row['kind'][:5]} {row['attack']:9s} {row['victim']:10s} {'own  ' if row['victim_is_own'] else 'other'} "
        f"{row['hostile_comes']:5s} | active {row['hostile_active']}/{row['hostile']} honest held "
        f"{row['honest_held']} | {part(row['gate'])} | without: {part(row.get('open'))} | {row['mappers']} mappers "
        f"{row['seconds']:.1f} s {row['reason']}"
    )


def newcomers(world: World) -> list[dict]:
    """Each set as the last to come to an agent that knows all others, three of them its own."""
    rows = []
    for names in ([n for n in world.sets if n not in NOT_FOLDERS], list(world.sets)):
        for name in names:
            for seed in range(1):
                rest = [n for n in names if n != name]
                random.Random(f"{seed} {name}").shuffle(rest)
                others = [*map(world.other, rest[3:]), world.other(name)]
                found = world.activate([world.own(n) for n in rest[:3]], others)
                rows.append(
                    {
                        "kind": world.kind,
                        "sets": len(names),
                        "new": name,
                        "seed": seed,
                        "mappers": found.built,
                    }
                    | {"active": name in found.active, "held": dict(found.held)}
                    | {"others_active": len(found.active) - 3, "others": len(others)}
                )
        mine = [row for row in rows if row["sets"] == len(names)]
        held = {(row["new"], row["held"][row["new"]]) for row in mine if not row["active"]}
        print(
            world.kind,
            len(names),
            "new tasks active",
            sum(r["active"] for r in mine) / len(mine),
            held,
            flush=True,
        )
    return rows


def populations(world: World) -> list[dict]:
    """Eight authors with three tasks each (18 sets: six), every one of them an agent."""
    rows = []
    for names in ([n for n in world.sets if n not in NOT_FOLDERS], list(world.sets)):
        for seed in range(SEEDS):
            order = names[:]
            random.Random(seed).shuffle(order)
            authors = [order[i : i + 3] for i in range(0, len(order), 3)]
            for me, mine in enumerate(authors):
                others = [
                    world.other(n, str(who))
                    for who, theirs in enumerate(authors)
                    if who != me
                    for n in theirs
                ]
                began = time.perf_counter()
                found = world.activate([world.own(n) for n in mine], others)
                x = {n: world.test(n) for n in mine}
                alone = world.anchoring.mapper({n: world.anchors[n] for n in mine}, lambda y: y)
                taken = {n: _by_author(found.mapper, alone, authors, me, n, x[n]) for n in mine}
                rows.append(
                    {
                        "kind": world.kind,
                        "sets": len(names),
                        "seed": seed,
                        "own": mine,
                        "mappers": found.built,
                    }
                    | {"seconds": time.perf_counter() - began, "others": len(others)}
                    | {
                        "active": len(found.active) - 3,
                        "held": dict(found.held),
                        "taken_by_one_author": taken,
                        "held_rightly": [
                            c.id for c in others if c.id in found.held and _takes(world, found, c)
                        ],
                    }
                )
        mine = [row for row in rows if row["sets"] == len(names)]
        total, rightly = sum(r["others"] for r in mine), sum(len(r["held_rightly"]) for r in mine)
        active = sum(r["active"] for r in mine) / total
        print(
            world.kind,
            len(names),
            "of those that take at most 5 % of test features",
            active * total / (total - rightly),
        )
        print(
            world.kind, len(names), "active in populations", active, "mappers", [r["mappers"] for r in mine]
        )
        print(sorted({f"{k}: {v}" for r in mine for k, v in r["held"].items()}), flush=True)
    return rows


def _takes(world: World, found: Activation, held: Candidate) -> bool:
    """Whether a held module would in truth take more than 5 % of the test features of an active task."""
    names = [each.removeprefix("own ") for each in found.active]
    with_it = world.anchoring.mapper({n: world.anchors[n] for n in [*names, held.name]}, lambda y: y)
    for name in names:
        x = world.test(name, 1000)
        pairs = zip(answers(found.mapper, x), answers(with_it, x), strict=True)
        if sum(b == name and a == held.name for b, a in pairs) > 0.05 * len(x):
            return True
    return False


def _by_author(mapper, alone, authors: list, me: int, name: str, x: torch.Tensor) -> float:
    """The most of an own task's test features that one other author's tasks get."""
    before, after = answers(alone, x), answers(mapper, x)
    return max(
        sum(b == name and a in theirs for b, a in zip(before, after, strict=True)) / len(x)
        for who, theirs in enumerate(authors)
        if who != me
    )


def duplicates(world: World) -> list[dict]:
    """Each set in two halves, taught by two agents: the agent's own and another's, or two others'."""
    rows = []
    for name, part in world.sets.items():
        order = permutation(len(part["y"]), 0, "poison", "halves", name)
        val = permutation(len(part["val"]), 0, "poison", "val", name)
        cut, middle = len(order) // 2, len(val) // 2
        halves = [
            {"x": part["x"][rows_], "y": part["y"][rows_], "val": part["val"][held]}
            for rows_, held in ((order[:cut], val[:middle]), (order[cut:], val[middle:]))
        ]
        a, b = (world.fit(name, half, seed) for seed, half in enumerate(halves))
        rest = [n for n in world.sets if n not in {name, "CIFAR100", "cifar10"}]
        random.Random(name).shuffle(rest)
        second = Candidate("second", name + " again", "somebody", b)
        for is_own in (True, False):
            own = [world.own(n) for n in rest[:2]]
            others = [world.other(n) for n in rest[2:10]]
            if is_own:
                own.append(world.own(name, a, halves[0]))
            else:
                others.append(world.other(name, anchor=a))
            found = world.activate(own, [*others, second])
            reason = found.held.get("second", "")
            rows.append(
                {"kind": world.kind, "set": name, "first_is_own": is_own, "reason": reason}
                | {"held": "second" in found.held, "names_the_first": f"overlaps task {name!r}" in reason}
            )
    for is_own in (True, False):
        mine = [row for row in rows if row["first_is_own"] == is_own]
        held, named = (sum(row[key] for row in mine) for key in ("held", "names_the_first"))
        rest = [(row["set"], row["reason"]) for row in mine if not row["names_the_first"]]
        print(world.kind, f"duplicates: {held} held, {named} named, of {len(mine)}", rest, flush=True)
    return rows


class Remembering:
    """An anchoring that makes no mapper twice of the same anchors in the same order."""

    def __init__(self, base: Anchoring) -> None:
        self.base, self.made = base, {}
        self.read, self.check = base.read, base.check

    def mapper(self, anchors: dict, features):
        key = tuple(anchors)
        if key not in self.made:
            self.made[key] = self.base.mapper(anchors, features)
        return self.made[key]


def orders(world: World, times: int = 100) -> list[dict]:
    """Modules arrive in random orders; activation is asked for on the sorted set, as an agent does."""
    own_names, rest = list(TOWN[:3]), TOWN[3:]
    bad = ATTACKS["near_copy"](world.anchors, TOWN[4], generator(0, "orders"))
    modules = {n: world.other(n) for n in rest} | {
        n: Candidate(n, n, "mallory", anchor) for n, anchor in bad.items()
    }
    found = set()
    remembering = Remembering(world.anchoring)
    for seed in range(times):
        rng, bank = random.Random(seed), {}
        own = own_names[:]
        rng.shuffle(own)
        for name in rng.sample(sorted(modules), len(modules)):
            bank[name] = modules[name]
        others = sorted(bank.values(), key=lambda c: (c.author, c.id))
        result = activate([world.own(n) for n in own], others, remembering, lambda x: x)
        probe = result.mapper.scores(world.test(TOWN[0], 20))
        found.add((result.active, tuple(sorted(result.held.items())), probe.numpy().tobytes()))
    print(world.kind, "different activations in", times, "orders:", len(found), flush=True)
    held = [held for _, held, _ in found]
    return [{"kind": world.kind, "orders": times, "different": len(found), "held": held}]


def summary(rows: list[dict]) -> list[dict]:
    """Per kind and attack: the worst of all victims, with the gate and without."""
    found = []
    for kind, attack in sorted({(row["kind"], row["attack"]) for row in rows}):
        mine = [row for row in rows if (row["kind"], row["attack"]) == (kind, attack)]
        line = {"kind": kind, "attack": attack, "trials": len(mine)}
        line["active"] = sum(row["hostile_active"] > 0 for row in mine)
        for which in ("open", "gate"):
            for key in ("taken", "lost", "far_known", "new_known"):
                line[f"{which}_{key}"] = max((row[which][key] for row in mine if which in row), default=None)
        own = [row["gate"]["taken_own"] for row in mine]
        line["gate_taken_own"] = max(own)
        found.append(line)
        print(line, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--dimensions", type=int, help="project features to so many random directions: faster"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for kind in options.kinds:
        world = World(options.features, kind, options.seed, options.dimensions)
        for part in options.parts:
            rows = globals()[part](world)
            # parts take long and may be run one by one: those of earlier runs stay
            old = FOLDER / "poison.json"
            figures = json.loads(old.read_text())["parts"] if old.exists() else {}
            found = {"command": provenance()["command"], "date": provenance()["date"], "rows": rows}
            if part == "attacks":
                found["worst"] = summary(rows)
            name = part if options.dimensions is None else f"{part}, {options.dimensions} dimensions"
            figures.setdefault(name, {})[kind] = found
            write("poison", {"features": options.features.name, "seed": options.seed, "parts": figures})


if __name__ == "__main__":
    main()
