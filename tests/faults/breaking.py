"""Ways to break a file of the working directory."""

import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.smoke import workspace
from tests.smoke.workspace import EXPERIMENT

PARAMETERS = Path("experiments") / f"{EXPERIMENT}.yaml"
REFERENCE, PREFERENCES, SFT, PPO, DPO = (
    f"{stage} {EXPERIMENT} 0" for stage in ("reference", "preferences", "train_sft", "train_ppo", "train_dpo")
)
COMPLETE, PROBE = f"complete {EXPERIMENT} 0 dpo", f"probe {EXPERIMENT} 0 dpo"  # both read base and adapter

Break = Callable[[], object]
Tensors = dict[str, torch.Tensor]
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Fault:
    """One way of being broken, the stage that meets it, and what its message must name."""

    id: str
    broken: Break
    command: str  # stage and axes
    names: tuple[str, ...]

    @property
    def arguments(self) -> list[str]:
        """Return stage and axes."""
        return self.command.split()


def cases(faults: Sequence[Fault]) -> list[Any]:
    """Return faults as rows of a parametrized test, named by their ids."""
    return [pytest.param(fault, id=fault.id) for fault in faults]


def parameter(section: str, **values: Any) -> Break:
    """Change values of one section of the experiment, or of one of its methods."""

    def change() -> None:
        file = yaml.safe_load(PARAMETERS.read_text())
        workspace.change(file, {section: values})
        PARAMETERS.write_text(yaml.safe_dump(file, sort_keys=False))

    return change


def written(path: Path, content: str | bytes) -> Break:
    """Replace a file."""
    data = content if isinstance(content, bytes) else content.encode()
    return lambda: path.write_bytes(data)


def removed(path: Path) -> Break:
    """Remove a file."""
    return path.unlink


def cut(path: Path, share: float = 0.5) -> Break:
    """Keep the first part of a file."""
    return lambda: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def folder_instead(path: Path) -> Break:
    """Put a folder where a file was."""

    def change() -> None:
        path.unlink()
        path.mkdir()

    return change


def keys(path: Path, **changed: Any) -> Break:
    """Change keys of a JSON object; `...` removes one."""

    def change() -> None:
        value = json.loads(path.read_text()) | changed
        path.write_text(json.dumps({key: item for key, item in value.items() if item is not ...}))

    return change


def tensors(path: Path, change: Callable[[Tensors], object]) -> Break:
    """Change the tensors of a safetensors file."""

    def apply() -> None:
        found = load_file(path)
        change(found)
        save_file({name: tensor.contiguous() for name, tensor in found.items()}, path, metadata={"format": "pt"})

    return apply


def rows(path: Path, change: Callable[[Rows], object]) -> Break:
    """Change the rows of a JSONL file."""

    def apply() -> None:
        found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        change(found)
        path.write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")

    return apply


def line(path: Path, number: int, content: str | bytes) -> Break:
    """Replace one line, counted from 1, of a text file."""

    def apply() -> None:
        lines = path.read_bytes().split(b"\n")
        lines[number - 1] = content if isinstance(content, bytes) else content.encode()
        path.write_bytes(b"\n".join(lines))

    return apply


def changed(number: int, **values: Any) -> Callable[[Rows], None]:
    """Change keys of one row, counted from 1; `...` removes one."""

    def change(found: Rows) -> None:
        row = found[number - 1] | values
        found[number - 1] = {key: value for key, value in row.items() if value is not ...}

    return change


def again(number: int) -> Callable[[Rows], None]:
    """Append a row that is there already."""
    return lambda found: found.append(found[number - 1])


def folder_gone(folder: Path) -> Break:
    """Remove a folder."""
    return lambda: shutil.rmtree(folder)


def pickled() -> bytes:
    """Return a pickle, harmless and yet not to be read."""
    return pickle.dumps({"weight": [0.0]})


def pickle_instead(path: Path, name: str) -> Break:
    """Put a pickle of another name where a file was."""
    return both(removed(path), written(path.with_name(name), pickled()))


def both(*broken: Break) -> Break:
    """Break several things."""

    def apply() -> None:
        for change in broken:
            change()

    return apply
