"""The figures of the paper on impressions, keeping their results.

    nice -n 10 python benchmarks/impress_tables.py impress-figure3 --root ../shared/data [--scale half] ...

The same as `stolon reproduce FIGURE`, with its options; the experiment's folder (`reproduce/impress-SCALE` by default)
is where it goes on after a stop, and what figures on one stream share is done once. There is a report FIGURE.html in
it. Adds benchmarks/results/impress_tables.json an entry for each figure, scale and stream, in place of an earlier one
of the same (add --name WORD for one beside it): tables as told, every result of every task and run, settings.
`impress-table2` takes no data and no scale.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from results import FOLDER, write

from stolon.shell.main import main as stolon


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("figure")
    parser.add_argument("--scale", default="quick")
    parser.add_argument("--out")
    parser.add_argument("--name", default="", help="tells runs of one figure, scale and stream apart")
    options, others = parser.parse_known_args()
    is_table = options.figure == "impress-table2"
    place = options.figure if is_table else f"impress-{options.scale}{options.name and '-' + options.name}"
    out = Path(options.out or f"reproduce/{place}")
    scale = [] if is_table else ["--scale", options.scale]
    try:
        stolon(["reproduce", options.figure, *scale, "--out", str(out), *others])
    except SystemExit as ended:
        if ended.code:
            sys.exit(ended.code)
    made = json.loads((out / f"{options.figure}.json").read_text())
    shutil.copy(out / "report.html", out / f"{options.figure}.html")  # the next figure has its own
    path = FOLDER / "impress_tables.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else {}
    if is_table:
        runs[options.figure] = made
    else:
        for stream, run in made["runs"].items():
            key = ", ".join(filter(None, (options.figure, options.scale, stream, options.name)))
            runs[key] = {"command": made["command"], **run}
    write("impress_tables", {"runs": runs})


if __name__ == "__main__":
    main()
