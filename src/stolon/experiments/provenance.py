"""Where numbers come from: versions and hardware."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stolon.streams.images import usable_cores


@cache
def versions() -> dict[str, str]:
    """Of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in ("stolon", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # an extra that is not installed takes no part
            continue
    return found


@cache
def hardware() -> dict[str, Any]:
    """Machine type, processor and how many of its cores we may use; nothing that names the machine."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "processor": _processor(),
        "cores": usable_cores(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "unknown")
