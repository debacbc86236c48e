"""The repository as the contracts see it: which module imports which, and what dvc.yaml declares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps.dag import Imports

ROOT = Path(__file__).resolve().parents[2]
AXES = {"experiment": "exp", "seed": "7", "policy": "sft"}


@dataclass(frozen=True)
class Entry:
    """One stage of dvc.yaml, spelled out for the experiment `exp`, the seed 7 and the policy `sft`."""

    name: str
    command: str
    params: dict[str, list[str]] = field(default_factory=dict)
    deps: list[str] = field(default_factory=list)
    outs: list[str] = field(default_factory=list)


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        for axis, example in AXES.items():
            value = value.replace(f"${{item.{axis}}}", example)
        return value
    if isinstance(value, dict):
        return {_spelled(key): _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list) else value


def _entry(name: str, raw: dict[str, Any]) -> Entry:
    stage = _spelled(raw.get("do", raw))
    declared = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    outs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in declared]
    params = {path: sections for entry in stage.get("params", []) for path, sections in entry.items()}
    return Entry(name, stage["cmd"], params, stage.get("deps", []), outs)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def imports() -> Imports:
    return Imports(ROOT)


@pytest.fixture(scope="session")
def entries() -> dict[str, Entry]:
    raw = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: _entry(name, stage) for name, stage in raw["stages"].items()}
