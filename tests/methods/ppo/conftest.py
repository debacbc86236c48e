"""The tiny model on disk, its reference the bare base, and a fresh policy of it."""

from pathlib import Path
from typing import Any

import pytest

from tests.policy import tiny_llama


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with the experiment `exp`, whose model ends some completions early."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base(end_bias=0.5)
    return tmp_path


@pytest.fixture
def policy(workplace: Path) -> Any:
    """Return a policy with a fresh trainable adapter."""
    return tiny_llama.new_policy()
