"""A working directory with a tiny base model of each architecture, and policies made from it."""

import shutil
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import TinyModel
from tests.policy.tiny_t5 import T5


@pytest.fixture(params=[LLAMA, T5], ids=lambda tiny: tiny.architecture)
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    """Return the tiny model of one architecture, then of the other."""
    return request.param


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TinyModel], Path]:
    """Return what writes the experiment `exp` once: below `base` with the bare base as reference, below `task` with
    a task's adapter."""

    @cache
    def write(tiny: TinyModel) -> Path:
        folder = tmp_path_factory.mktemp(tiny.architecture)
        (folder / "base").mkdir()
        with chdir(folder / "base"):
            tiny.write_base()
        shutil.copytree(folder / "base", folder / "task")
        with chdir(folder / "task"):
            tiny.write_task_reference()
        return folder

    return write


@pytest.fixture
def workplace(
    tiny: TinyModel, written: Callable[[TinyModel], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Make a working directory with the experiment `exp`, whose reference is the bare base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    shutil.copytree(written(tiny) / "base", tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def base(tiny: TinyModel, workplace: Path) -> Any:
    """Return the bare base as a policy."""
    return tiny.load("reference")


@pytest.fixture(params=["adapter off", "reference adapter on"])
def policy(
    request: pytest.FixtureRequest, tiny: TinyModel, written: Callable[[TinyModel], Path], workplace: Path
) -> Any:
    """Return a fresh policy whose reference is the bare base, then one whose reference is a task adapter."""
    if request.param == "reference adapter on":
        shutil.copytree(written(tiny) / "task", workplace, dirs_exist_ok=True)
    return tiny.new_policy()
