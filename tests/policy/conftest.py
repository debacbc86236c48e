"""A working directory with a tiny base model, and policies made from it."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.policy import Policy
from tests.policy import tiny_llama


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a working directory with the experiment `exp`, whose reference is the bare base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base()
    return tmp_path


@pytest.fixture
def base(workplace: Path) -> Policy:
    """Return the bare base as a policy."""
    return tiny_llama.load("reference")


@pytest.fixture(params=["adapter off", "reference adapter on"])
def policy(request: pytest.FixtureRequest, workplace: Path) -> Any:
    """Return a fresh policy whose reference is the bare base, then one whose reference is a task adapter."""
    if request.param == "reference adapter on":
        tiny_llama.write_task_reference()
    return tiny_llama.new_policy()
