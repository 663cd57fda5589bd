"""What the scripts that keep the tables of `stolon reproduce` have in common."""

import argparse
import json
import shutil
import sys
from pathlib import Path

from results import FOLDER, write

from stolon.shell.main import main as stolon


def keep(about: str, kept: str, *, shares_work: bool) -> None:
    """Make a table by its command, and keep its numbers in benchmarks/results.

    Args:
        about: what the script's help says.
        kept: the name of the results file.
        shares_work: whether tables of one scale have one folder, in which what they share is done once; else each has
            its own.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--scale")
    parser.add_argument("--out")
    parser.add_argument("--name", default="", help="tells runs of one table, scale and stream apart")
    parser.add_argument("--dataset", help="passed on; its runs have a name of their own")
    options, others = parser.parse_known_args()
    if options.dataset is not None:
        others += ["--dataset", options.dataset]
    scale = options.scale or "quick"
    place = options.table.partition("-")[0] if shares_work else options.table
    out = Path(options.out or f"reproduce/{place}-{scale}{options.name and '-' + options.name}")
    scaled = [] if options.scale is None else ["--scale", scale]
    command = ["reproduce", options.table, *scaled, "--out", str(out), *others]
    typed = sys.argv
    sys.argv = ["stolon", *command]  # what is kept, and told to go on by, is a command of stolon's
    try:
        stolon(command)
    except SystemExit as ended:
        if ended.code:
            sys.exit(ended.code)
    finally:
        sys.argv = typed
    made = json.loads((out / f"{options.table}.json").read_text())
    if shares_work:
        shutil.copy(out / "report.html", out / f"{options.table}.html")  # the next table has its own
    path = FOLDER / f"{kept}.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    if "runs" not in made:  # one that takes no data and no scale
        runs[options.table] = made
    for stream, run in made.get("runs", {}).items():
        key = ", ".join(filter(None, (options.table, scale, stream, options.dataset, options.name)))
        runs[key] = {"command": made["command"], **run}
    write(kept, {"runs": runs})
