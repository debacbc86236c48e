"""Checkpoints of a training: written whole, sealed with hashes, and continued only by a training of the same key.

They lie in `checkpoints/`, outside every DVC output: DVC removes outputs before a stage runs. Each key has a folder of
its own, so that a start under other conditions costs nothing. A checkpoint is a folder that the method fills;
`seal.json` in it holds what it belongs to and the SHA-256 of every file. Without the seal, or with a file that is not
as sealed, it is removed and never read.

The key is what a training's result depends on, as digests. Data and code are those that dvc.yaml names as `deps` of the
stage, so that a checkpoint and DVC's lock agree on what "changed" means. Threads are among them on the CPU: sums of
another number of threads differ in their last bits.
"""

import hashlib
import json
import logging
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import yaml

from pipeline.io import paths
from pipeline.io.atomic import replacing, replacing_folder
from pipeline.io.errors import UserError
from pipeline.io.hashing import file_digest, files_digest, mapping_digest

logger = logging.getLogger(__name__)

SEAL = "seal.json"
EXECUTION = "execution.json"  # of the training itself: its MLflow run, and what it has left when it was through
EVERY = 5  # updates; a tenth of a second each for 15 MB of adapter with its optimiser
_STEP = re.compile(r"step-(\d+)")
_FOLDER_NAME = 16  # digits of the key


def open_checkpoints(stage: str, experiment: str, seed: int, params: Mapping[str, Any]) -> "Checkpoints":
    """Return the checkpoints of one training; `params` are all parameters it reads.

    Those of a training that DVC has recorded are removed: if it runs again, it was told to. Raises UserError when
    CHECKPOINT_EVERY is no count of updates.
    """
    method = stage.removeprefix("train_")
    folder = paths.checkpoints(experiment, seed, method)
    with suppress(OSError):  # the first checkpoint says why; made here, since nobody else may enter it
        folder.parents[2].mkdir(mode=0o700, exist_ok=True)
    checkpoints = Checkpoints(folder, key_parts(stage, experiment, seed, params), updates_between())
    left = checkpoints.execution().get("left")
    if left and left == _recorded(f"{stage}@{experiment}-{seed}", paths.metrics(experiment, method, seed)):
        checkpoints.clear()
    return checkpoints


def updates_between() -> int:
    """Return how many updates lie between two checkpoints: CHECKPOINT_EVERY, 5 where it is not set, 0 for never."""
    value = os.environ.get("CHECKPOINT_EVERY") or str(EVERY)
    if not (value.isascii() and value.isdecimal()):
        raise UserError(
            f"CHECKPOINT_EVERY: expected a number of updates in the environment, 0 for never, got {value!r}; correct it"
        )
    return int(value)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is whole: its folder and the number of updates that were done."""

    folder: Path
    step: int


class Checkpoints:
    """The checkpoints of one training below `folder`, one every `every` updates; 0 for none."""

    def __init__(self, folder: Path, parts: Mapping[str, str], every: int) -> None:
        self.every = every
        self.key = mapping_digest(parts)
        self.folder = folder / self.key[:_FOLDER_NAME]
        self._parts = dict(parts)
        self._can_write = True

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; remove and name those that are not, and name those of others."""
        for step, path in sorted(_steps(self.folder).items(), reverse=True):
            problem = _damage(path)
            if problem is None:
                logger.info("continuing from %s", path)
                return Checkpoint(path, step)
            logger.warning("%s: not continued (%s); removed", path, problem)
            shutil.rmtree(path)
        for path in sorted(path for other in self._others() for path in _steps(other).values()):
            logger.warning("%s: of a training with other %s; kept, not continued", path, self._difference(path))
        return None

    def is_due(self, step: int, last: int) -> bool:
        """Return whether there is to be a checkpoint after `step` of `last` updates: at the interval and at the end.

        At most a hundred are made of a training: of all weights of a small model each takes longer than an update.
        """
        return self.every > 0 and (step % max(self.every, last // 100) == 0 or step == last)

    def keep(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder, seal it, and only then remove the earlier checkpoint.

        A disk that cannot be written to costs one warning and no training.
        """
        place = self.folder / f"step-{step:06d}"
        earlier = _steps(self.folder)

        def fill() -> None:
            with replacing_folder(place, at_once=True) as folder:
                write(folder)
                self._seal(folder)
            _to_disk(self.folder)

        if self._attempt(fill):
            for path in earlier.values():
                if path != place:
                    shutil.rmtree(path, ignore_errors=True)

    def execution(self) -> dict[str, Any]:
        """Return what is known of an earlier execution of this training: `run_id`, and `left` when it was through."""
        try:
            known = json.loads((self.folder / EXECUTION).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}

    def note(self, **known: Any) -> None:
        """Note something of this execution, for the one that may have to go on from it."""

        def fill() -> None:
            with replacing(self.folder / EXECUTION, at_once=True) as temporary:
                temporary.write_text(json.dumps(self.execution() | known), encoding="utf-8")

        self._attempt(fill)

    def note_finished(self, metrics: Path) -> None:
        """Note that the training is through and has left these metrics; DVC may not have recorded them yet."""
        self.note(left=_md5(metrics))

    def clear(self) -> None:
        """Remove what this training has left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _attempt(self, fill: Callable[[], None]) -> bool:
        if not self._can_write:
            return False
        try:
            fill()
        except (UserError, OSError) as error:
            logger.warning("no more checkpoints; the training goes on without: %s", error)
            self._can_write = False
        return self._can_write

    def _others(self) -> list[Path]:
        return [path for path in self.folder.parent.glob("*") if path.is_dir() and path != self.folder]

    def _difference(self, folder: Path) -> str:
        try:
            theirs = dict(json.loads((folder / SEAL).read_text(encoding="utf-8"))["parts"])
        except (OSError, ValueError, KeyError, TypeError):
            return "conditions"
        return ", ".join(name for name in sorted(self._parts | theirs) if self._parts.get(name) != theirs.get(name))

    def _seal(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            _to_disk(path)
        digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
        seal = folder / SEAL
        seal.write_text(json.dumps({"parts": self._parts, "files": digests}, indent=2), encoding="utf-8")
        _to_disk(seal)


def _steps(folder: Path) -> dict[int, Path]:
    """Return the checkpoints in a folder by their number of updates."""
    found = ((_STEP.fullmatch(path.name), path) for path in folder.glob("step-*") if path.is_dir())
    return {int(match[1]): path for match, path in found if match}


def _damage(folder: Path) -> str | None:
    """Return in what a checkpoint is not as it was sealed, None where it is."""
    try:
        files = dict(json.loads((folder / SEAL).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return f"expected {SEAL} with the hash of every file"
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    del present[SEAL]
    differing = sorted(present.keys() ^ files.keys()) or [
        name for name, path in present.items() if path.is_symlink() or file_digest(path) != files[name]
    ]
    return f"{differing[0]} is not as it was written" if differing else None


def _recorded(entry: str, metrics: Path) -> str | None:
    """Return the MD5 that dvc.lock holds of a training's metrics, None where it holds none."""
    try:
        locked = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))["stages"][entry]["outs"]
        return next((str(out["md5"]) for out in locked if out["path"] == metrics.as_posix()), None)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()  # as DVC has it


def _to_disk(path: Path) -> None:
    """Make sure that a file, or the names in a folder, outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


ROOT = Path(__file__).resolve().parents[3]  # of the code that runs; data lie in the working directory
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
        listed = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"][stage]
        deps: list[str] = listed.get("do", listed)["deps"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        raise UserError(f"dvc.yaml: expected the deps of {stage}; restore it with `git checkout dvc.yaml`") from None
    return [dep.replace("${item.experiment}", experiment).replace("${item.seed}", str(seed)) for dep in deps]


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

    from pipeline.policy.loading import device

    kind = device().type
    if kind == "cuda":
        return f"{torch.cuda.get_device_name()} {torch.version.cuda}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{kind} {platform.machine()} {capability}, {torch.get_num_threads()} threads"
