import subprocess
import sys

import stolon


def test_the_public_names_are_these():
    assert sorted(stolon.__all__) == sorted(
        ["Agent", "Epoch", "Learner", "Prediction", "Size", "Split", "StolonError", "Stream", "Task", "__version__",
         "learners", "measure", "nets", "sharing", "streams"]
    )  # fmt: skip
    for name in stolon.__all__:
        assert getattr(stolon, name) is not None
    assert set(dir(stolon)) == set(stolon.__all__)


def test_importing_it_imports_nothing_heavy():
    heavy = "torch", "torchvision", "timm", "numpy", "sklearn", "matplotlib", "PIL"
    code = f"import sys, stolon; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_command_line_shows_its_help_without_anything_heavy():
    code = (
        "import sys\nfrom stolon.shell.main import parser\nparser().format_help()\n"
        "print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_classifying_imports_nothing_that_it_does_not_use():
    code = "import sys, stolon.shell.store_commands\nprint([m for m in ('sklearn', 'matplotlib') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
