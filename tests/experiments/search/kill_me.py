"""Searches in a folder, and kills itself (SIGKILL) in the middle of the trial of a number.

python -m tests.experiments.search.kill_me FOLDER NUMBER
"""

import os
import signal
import sys

from tests.experiments.search.making import PLAN

from stolon.experiments.search import search_report, searching
from stolon.growth.sequence_run import run_sequence


def main(folder, number):
    asked = []

    def killed(sequence, tasks, **options):
        """Learn the sequence whole, and die before it is told."""
        asked.append(sequence)
        found = run_sequence(sequence, tasks, **options)
        if len(asked) > number:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    search_report.publish = lambda journal, **_: None
    searching.run_sequence = killed
    list(searching.run(PLAN, folder, trials=6, workers=0))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
