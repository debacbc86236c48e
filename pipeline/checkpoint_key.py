"""L1: what a training's result depends on, as digests: a checkpoint is continued only where all of them are the same.

Data and code are those that dvc.yaml names as `deps` of the stage, so that a checkpoint and DVC's lock agree on what
"changed" means. Threads are among them on the CPU: sums of another number of threads differ in their last bits.
"""

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError
from pipeline.fingerprint import file_digest, files_digest, mapping_digest

ROOT = Path(__file__).resolve().parents[1]  # of the code that runs; data lie in the working directory
_CODE = ("stages/", "pipeline/")
_ABSENT = "absent"


def key_parts(stage: str, experiment: str, seed: int, params: Mapping[str, Any]) -> dict[str, str]:
    """Return part -> digest or value: parameters, data, code, versions and machine.

    Reads every input once, the base model too: about a second for 500 MB. What is missing counts as absent; the stage
    itself says so.
    """
    deps = _deps(stage, experiment, seed)
    code = [ROOT / dep for dep in deps if dep.startswith(_CODE)]
    data = [Path(dep) for dep in deps if not dep.startswith(_CODE)]
    return {
        "parameters": mapping_digest({"seed": seed, "params": params}),
        "data": mapping_digest({path.as_posix(): _content(path) for path in data}),
        "code": mapping_digest({path.relative_to(ROOT).as_posix(): _content(path) for path in code}),
        "library versions": mapping_digest({"python": platform.python_version(), **_installed()}),
        "device or threads": _machine(),
    }


def _deps(stage: str, experiment: str, seed: int) -> list[str]:
    path = ROOT / "dvc.yaml"
    try:
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"][stage]["deps"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise UserError(f"dvc.yaml: expected the deps of {stage}; restore it with `git checkout dvc.yaml`") from None
    return [dep.replace("${item.experiment}", experiment).replace("${item.seed}", str(seed)) for dep in listed]


def _content(path: Path) -> str:
    if path.is_file():
        return file_digest(path)
    return files_digest(path, _sound(path.rglob("*"))) if path.is_dir() else _ABSENT


def _sound(found: Iterable[Path]) -> Iterable[Path]:
    return (path for path in found if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".tmp")


def _installed() -> dict[str, str]:
    return {distribution.name: distribution.version for distribution in distributions()}


def _machine() -> str:
    import torch

    from pipeline.models import device

    kind = device().type
    if kind == "cuda":
        return f"{torch.cuda.get_device_name()} {torch.version.cuda}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{kind} {platform.machine()} {capability}, {torch.get_num_threads()} threads"
