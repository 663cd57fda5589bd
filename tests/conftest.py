"""What all tests share."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)  # results depend on it, and two threads on two busy cores are far slower

hypothesis.settings.register_profile("stolon", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("stolon")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data and weights; tests that need it skip where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("STOLON_SHARED_DATA", default))
    if not (path / "datasets").is_dir():
        pytest.skip(f"no real data at {path}; set STOLON_SHARED_DATA to the folder that holds datasets/")
    return path
