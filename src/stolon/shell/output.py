"""How values are printed for programs."""

import json
import sys
from typing import Any


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Print a value as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
