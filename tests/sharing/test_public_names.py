import subprocess
import sys

import pytest

import stolon.sharing


def test_every_public_name_is_there():
    assert sorted(stolon.sharing.__all__) == stolon.sharing.__all__ == dir(stolon.sharing)
    for name in stolon.sharing.__all__:
        assert getattr(stolon.sharing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Blockchain'"):
        stolon.sharing.Blockchain  # noqa: B018 - asking is the test


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'nacl', 'numpy', 'safetensors'}"
    code = f"import sys, stolon.sharing; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
