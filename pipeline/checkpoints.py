"""L1: checkpoints of a training: written whole, sealed with hashes, and continued only by a training of the same key.

They lie in `checkpoints/`, outside every DVC output: DVC removes outputs before a stage runs. A checkpoint is a folder
that the method fills; `seal.json` in it holds what it belongs to and the SHA-256 of every file. Without the seal, or
with a file that is not as sealed, it is removed and never read: some of what Transformers writes are pickles, which are
read with `weights_only=True` and only where their hash is the sealed one.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.atomic import replacing_folder
from pipeline.checkpoint_key import key_parts
from pipeline.errors import UserError
from pipeline.fingerprint import file_digest, mapping_digest

logger = logging.getLogger(__name__)

SEAL = "seal.json"
EVERY = 5  # updates; a tenth of a second each for 15 MB of adapter with its optimiser
_STEP = re.compile(r"step-(\d+)")
_LAST_GOOD = "last_good"


def open_checkpoints(stage: str, experiment: str, seed: int, params: Mapping[str, Any]) -> "Checkpoints":
    """Return the checkpoints of one training; `params` are all parameters it reads.

    Raises UserError when CHECKPOINT_EVERY is no count of updates.
    """
    folder = paths.checkpoints(experiment, seed, stage.removeprefix("train_"))
    return Checkpoints(folder, key_parts(stage, experiment, seed, params), updates_between())


def updates_between() -> int:
    """Return how many updates lie between two checkpoints: CHECKPOINT_EVERY, 5 where it is not set, 0 for never."""
    value = os.environ.get("CHECKPOINT_EVERY") or str(EVERY)
    if not value.isdecimal():
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
    """The checkpoints of one training in `folder`, one every `every` updates; 0 for none."""

    def __init__(self, folder: Path, parts: Mapping[str, str], every: int) -> None:
        self.folder = folder
        self.every = every
        self.key = mapping_digest(parts)
        self._parts = dict(parts)
        self._can_write = True

    def latest(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole and of this training; remove and name those that are not."""
        found = [(int(match[1]), path) for path in self._folders() if (match := _STEP.fullmatch(path.name))]
        for step, path in sorted(found, reverse=True):
            problem = self._problem(path)
            if problem is None:
                logger.info("continuing from %s", path)
                return Checkpoint(path, step)
            logger.warning("%s: not continued (%s); removed", path, problem)
            shutil.rmtree(path)
        return None

    def is_due(self, step: int, last: int) -> bool:
        """Return whether there is to be a checkpoint after `step` of `last` updates: at the interval and at the end."""
        return self.every > 0 and (step % self.every == 0 or step == last)

    def keep(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder, seal it, and only then remove the earlier checkpoint.

        A disk that cannot be written to costs one warning and no training.
        """
        if not self._can_write:
            return
        earlier = [path for path in self._folders() if _STEP.fullmatch(path.name)]
        place = self.folder / f"step-{step:06d}"
        try:
            with replacing_folder(place, at_once=True) as folder:
                write(folder)
                self._seal(folder)
        except (UserError, OSError) as error:
            logger.warning("no more checkpoints; the training goes on without: %s", error)
            self._can_write = False
            return
        for path in earlier:
            if path != place:
                shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Remove all that an unfinished training left: it is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _folders(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*") if path.is_dir())

    def _seal(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            _to_disk(path)
        digests = {path.relative_to(folder).as_posix(): file_digest(path) for path in files}
        seal = folder / SEAL
        seal.write_text(json.dumps({"parts": self._parts, "files": digests}, indent=2), encoding="utf-8")
        _to_disk(seal)

    def _problem(self, folder: Path) -> str | None:
        """Return why a checkpoint cannot be continued, None where it can."""
        try:
            seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
            parts, files = dict(seal["parts"]), dict(seal["files"])
        except (OSError, ValueError, KeyError, TypeError):
            return f"expected {SEAL} with what it belongs to"
        other = sorted(name for name in self._parts | parts if self._parts.get(name) != parts.get(name))
        if other:
            return f"of other {', '.join(other)}"
        present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
        del present[SEAL]
        differing = sorted(present.keys() ^ files.keys()) or [
            name for name, path in present.items() if path.is_symlink() or file_digest(path) != files[name]
        ]
        return f"{differing[0]} is not as it was written" if differing else None


def _to_disk(path: Path) -> None:
    """Make sure that a file outlives a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
