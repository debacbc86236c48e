"""The repository as the contracts see it: which module imports which, and what dvc.yaml declares."""

import ast
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
AXES = {"experiment": "exp", "seed": "7", "policy": "sft"}


class Imports:
    """Who imports whom among pipeline/ and stages/, read from the source: late and type-only imports count too."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = [path for top in ("pipeline", "stages") for path in sorted((root / top).rglob("*.py"))]
        self.files = {self._dotted(path): path for path in files}
        self.trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in self.files.items()}
        self.direct = {name: self._imported(name) for name in self.files}

    def _dotted(self, path: Path) -> str:
        parts = path.relative_to(self.root).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def _imported(self, module: str) -> set[str]:
        found: set[str] = set()
        for name in self.names(module):
            parts = name.split(".")
            # importing a.b.c runs a and a.b as well; the last part may be a name inside a module
            found |= {prefix for end in range(1, len(parts) + 1) if (prefix := ".".join(parts[:end])) in self.files}
        return found - {module}

    def names(self, module: str) -> set[str]:
        """Return every dotted name that `module` imports, `from a import b` as a.b."""
        names: set[str] = set()
        for node in ast.walk(self.trees[module]):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: line {node.lineno}: use an absolute import"
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
        return names

    def reached(self, module: str, stop: frozenset[str] = frozenset()) -> dict[str, str]:
        """Return every module reached from `module`, each with the one that imports it; `stop` is not gone into."""
        reached: dict[str, str] = {}
        todo = [module]
        while todo:
            importer = todo.pop()
            for imported in sorted(self.direct[importer] - reached.keys() - {module} - stop):
                reached[imported] = importer
                todo.append(imported)
        return reached

    def has_code(self, module: str) -> bool:
        """Tell a module from a mere docstring."""
        return any(not isinstance(node, ast.Expr) for node in self.trees[module].body)

    def path(self, module: str) -> str:
        """Return the module's file relative to the root of the repository."""
        return str(self.files[module].relative_to(self.root))


@dataclass(frozen=True)
class Node:
    """One stage of dvc.yaml, spelled out for the experiment `exp`, the seed 7 and the policy `sft`."""

    name: str
    command: str
    axes: tuple[str, ...]
    params: dict[str, list[str]] = field(default_factory=dict)
    deps: list[str] = field(default_factory=list)
    outs: list[str] = field(default_factory=list)

    @cached_property
    def sections(self) -> list[str]:
        """Return the sections of the experiment file that the stage is rerun for."""
        return self.params.get("experiments/exp.yaml", [])


def _spelled(value: Any) -> Any:
    if isinstance(value, str):
        for axis, example in AXES.items():
            value = value.replace(f"${{item.{axis}}}", example)
        return value
    if isinstance(value, dict):
        return {_spelled(key): _spelled(item) for key, item in value.items()}
    return [_spelled(item) for item in value] if isinstance(value, list) else value


def _node(name: str, raw: dict[str, Any]) -> Node:
    stage = _spelled(raw)
    declared = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    outs = [next(iter(entry)) if isinstance(entry, dict) else entry for entry in declared]
    params = {path: sections for entry in stage.get("params", []) for path, sections in entry.items()}
    return Node(name, stage["cmd"], tuple(raw["matrix"]), params, stage.get("deps", []), outs)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def imports() -> Imports:
    return Imports(ROOT)


@pytest.fixture(scope="session")
def nodes() -> dict[str, Node]:
    raw = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return {name: _node(name, stage) for name, stage in raw["stages"].items()}
