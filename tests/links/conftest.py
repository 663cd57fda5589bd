"""Tests of links share the bad network and the processes of the benchmarks, which are scripts in one folder."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
