"""The tiny models on disk, their reference the bare base."""

from pathlib import Path

import pytest

from tests.policy import tiny_llama
from tests.policy.tiny_t5 import T5


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with the experiment `exp`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base()
    return tmp_path


@pytest.fixture
def t5_workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with the experiment `exp` of an encoder-decoder model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    T5.write_base()
    return tmp_path
