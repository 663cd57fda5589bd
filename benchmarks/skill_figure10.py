"""SKILL's Figure 10 with real agents: teacher MACs, bytes, student MACs, efficiency, accuracy.

    nice -n 10 python benchmarks/skill_figure10.py [--root ../shared/data] [--scale quick] [--agents N] [--tasks T]
        [--biases both] [--in-process] [--seed 0]

The same as `stolon reproduce skill-figure10`, keeping its results: without --root scikit-learn's digits, with it image
folders on MobileNetV2. Adds benchmarks/results/skill_figure10.json an entry for each data set, scale and number of
agents, in place of an earlier one of the same.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from results import FOLDER, write

from stolon.experiments import skill, skill_report
from stolon.shell.reproduce_skill import BIASES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root")
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--agents", type=int)
    parser.add_argument("--tasks", type=int)
    parser.add_argument("--biases", default="both", choices=list(BIASES))
    parser.add_argument("--in-process", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = skill.SkillConfig(
        scale=args.scale,
        agents=args.agents,
        tasks=args.tasks,
        root=args.root,
        seed=args.seed,
        in_process=args.in_process,
        biases=BIASES[args.biases],
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        world, found = skill.run(config, out, lambda text: print(text, flush=True))
        made = json.loads((out / "skill-figure10.json").read_text())
    print(skill_report.verdict(world, found))
    name = (
        f"{'digits' if args.root is None else 'folders'}, {args.scale}, N = {world.agents}, T = {world.tasks}"
    )
    path = FOLDER / "skill_figure10.json"
    before = json.loads(path.read_text())["runs"] if path.exists() else {}
    write("skill_figure10", {"runs": {**before, name: made}})


if __name__ == "__main__":
    main()
