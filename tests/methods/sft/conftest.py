"""The tiny model on disk, its reference the bare base."""

from pathlib import Path

import pytest

from tests.policy import tiny_llama


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with the experiment `exp`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base()
    return tmp_path
