"""Let torchvision and timm be imported beside a CPU build of PyTorch.

PyPI's torchvision wheel is built for CUDA: where PyTorch is a CPU build, its compiled operators fail to
load, and ``import torchvision`` then raises ``operator torchvision::nms does not exist`` because it
registers fake kernels for operators that nobody defined. Defining the two schemas first is enough:
data sets, transforms and models need none of those operators. Where the operators load, nothing is done.

Import this module before torchvision or timm.
"""

import importlib.util
from pathlib import Path

import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_FRAGMENTS: list[torch.library.Library] = []  # a library's definitions vanish with the object


def define_missing_operators() -> tuple[str, ...]:
    """Define the schemas of torchvision's operators that are missing; return their names."""
    _load_compiled_operators()
    missing = tuple(name for name in ("nms", "qnms") if not hasattr(torch.ops.torchvision, name))
    for name in missing:
        fragment = torch.library.Library("torchvision", "FRAGMENT")
        fragment.define(f"{name}{_SIGNATURE}")
        _FRAGMENTS.append(fragment)
    return missing


def _load_compiled_operators() -> None:
    """Load torchvision's own operators where they fit this PyTorch, as torchvision itself would."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    for library in sorted(Path(spec.origin).parent.glob("_C.*")):
        try:
            torch.ops.load_library(str(library))
        except OSError:
            continue  # built for another PyTorch: exactly the case that this module is for


define_missing_operators()
