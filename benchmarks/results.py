"""Where benchmarks put their figures: one JSON file each, with versions, hardware and the command."""

import json
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


def provenance() -> dict:
    """What a figure depends on besides its seed."""
    import torch

    return {
        "command": " ".join(["python", "benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("stolon", "torch", "timm", "scikit-learn", "numpy")},
        "processor": processor(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's own name for itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def write(name: str, figures: dict) -> Path:
    """Replace the benchmark's results file."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps({**provenance(), **figures}, indent=1) + "\n")
    print(f"wrote {path}")
    return path
