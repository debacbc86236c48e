"""A working directory with the tiny base model."""

from pathlib import Path
from typing import Any

import pytest

from tests.policy import tiny_llama


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the repository's root."""
    return Path(__file__).resolve().parents[2]


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the tiny base as a policy that ends some completions early."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base(end_bias=0.5)
    return tiny_llama.load("reference")
