import subprocess
import sys


def test_torchvision_and_timm_can_be_imported_after_it_and_nothing_is_defined_twice():
    code = (
        "from stolon import _torchvision\n"
        "import torchvision, timm\n"
        "print(_torchvision.define_missing_operators(), callable(torchvision.transforms.functional.resize))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "() True\n"
