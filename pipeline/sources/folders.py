"""L1: folders that appear whole or not at all, and paths that cannot leave them."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError

_DRIVE_LETTER = re.compile(r"[A-Za-z]:")


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield an empty sibling of `target` that takes its place only when the block ends without an error.

    The sibling's name is fixed, so that what a killed process left is removed by the next one; two writers of one
    target are kept apart by the stage's lock.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    previous = target.with_name(f".{target.name}.old")
    _remove(temporary, previous)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        _swap(temporary, target, previous)
    finally:
        _remove(temporary, previous)


def inside(path: str) -> PurePosixPath:
    """Return `path` as a relative path of plain names; raise UserError when it could leave the folder it is put in."""
    parts = path.split("/")
    if "\\" in path or "\0" in path or _DRIVE_LETTER.match(path) or {"", ".", ".."} & set(parts):
        raise UserError(
            f"{path!r} could leave the target folder and is refused; expected plain names joined by single slashes "
            "(no leading /, no .., no backslash, no drive letter)"
        )
    return PurePosixPath(*parts)


def _swap(temporary: Path, target: Path, previous: Path) -> None:
    try:
        if target.exists():
            target.rename(previous)
        temporary.rename(target)
    except BaseException:
        if previous.exists() and not target.exists():
            previous.rename(target)
        raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
