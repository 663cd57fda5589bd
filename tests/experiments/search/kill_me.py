"""Searches in a folder, and kills itself (SIGKILL) in the middle of the trial of a number.

With worker processes it dies when so many trials are done, and others under way.

python -m tests.experiments.search.kill_me FOLDER NUMBER [WORKERS]
"""

import os
import signal
import sys

from tests.experiments.search.making import PLAN

from stolon.experiments.search import search_report, searching
from stolon.growth.sequence_run import run_sequence


def main(folder, number, workers=0):
    search_report.publish = lambda journal, **_: None
    if workers:
        for event in searching.run(PLAN, folder, trials=6, workers=workers):
            if event.done > number:
                os.kill(os.getpid(), signal.SIGKILL)
    asked = []

    def killed(sequence, tasks, **options):
        """Learn the sequence whole, and die before it is told."""
        asked.append(sequence)
        found = run_sequence(sequence, tasks, **options)
        if len(asked) > number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    searching.run_sequence = killed
    list(searching.run(PLAN, folder, trials=6, workers=0))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
