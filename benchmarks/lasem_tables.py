"""The tables of the papers on selective layer transfer, keeping their results.

    nice -n 10 python benchmarks/lasem_tables.py lasem-figure4 --root ../shared/data [--scale half] [--out FOLDER] ...

The same as `stolon reproduce TABLE`, with its options; the experiment's folder (`reproduce/TABLE-SCALE` by default) is
where it goes on after a stop. Adds benchmarks/results/lasem_tables.json an entry for each table, scale and stream, in
place of an earlier one of the same (add --name WORD for one beside it): tables as told, accuracies and seconds of every
task and seed, chosen configurations, settings.
"""

import argparse
import json
import sys
from pathlib import Path

from results import FOLDER, write

from stolon.shell.main import main as stolon


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table")
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--out")
    parser.add_argument("--name", default="", help="tells runs of one table, scale and stream apart")
    options, others = parser.parse_known_args()
    out = Path(
        options.out or f"reproduce/{options.table}-{options.scale}{options.name and '-' + options.name}"
    )
    try:
        stolon(["reproduce", options.table, "--scale", options.scale, "--out", str(out), *others])
    except SystemExit as ended:
        if ended.code:
            sys.exit(ended.code)
    made = json.loads((out / f"{options.table}.json").read_text())
    path = FOLDER / "lasem_tables.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    for stream, run in made["runs"].items():
        key = ", ".join(filter(None, (options.table, options.scale, stream, options.name)))
        runs[key] = {"command": made["command"], **run}
    write("lasem_tables", {"runs": runs})


if __name__ == "__main__":
    main()
