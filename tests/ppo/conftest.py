"""A fresh policy of the tiny model, and a PPO section small enough for it."""

from pathlib import Path
from typing import Any

import pytest

from tests.policy import tiny_llama


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a policy with a fresh trainable adapter; its reference is the bare base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base(end_bias=0.5)
    return tiny_llama.new_policy()
