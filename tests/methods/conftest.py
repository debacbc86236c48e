"""The tiny model of each architecture on disk, its reference the bare base."""

from pathlib import Path

import pytest

from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import TinyModel
from tests.policy.tiny_t5 import T5


@pytest.fixture(params=[LLAMA, T5], ids=lambda tiny: tiny.architecture)
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    """Return the tiny model of one architecture, then of the other."""
    return request.param


@pytest.fixture
def workplace(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with the experiment `exp`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny.write_base()
    return tmp_path
