"""L0: files and folders that appear whole or not at all, one by one or all of a stage together.

What is replaced inside `together()` waits beside its place, in temporary siblings, until the block ends without an
error: a stage that fails, whatever the reason, leaves what was there before. `staged` tells where such content waits.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pipeline.errors import UserError

_OWN = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(?P<old>\.old)?\.tmp")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}
# Libraries in other languages (safetensors, Arrow) tell of these in words alone.
_IN_WORDS = re.compile(r"No space left on device|Disk quota exceeded|File too large|Read-only file system")

_staged: ContextVar[dict[Path, Path] | None] = ContextVar("staged", default=None)  # place -> temporary, in order


@contextmanager
def replacing(path: Path, at_once: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of the file `path` that takes its place when the block ends without an error.

    Inside `together()` it takes its place at the end of that block, unless `at_once`. Raises UserError when the disk is
    full or cannot be written to.
    """
    with _temporary(path, at_once) as temporary:
        yield temporary


@contextmanager
def replacing_folder(path: Path, at_once: bool = False) -> Iterator[Path]:
    """Yield an empty temporary sibling of the folder `path`; otherwise as `replacing`."""
    with _temporary(path, at_once) as temporary:
        with _writing(path):
            temporary.mkdir()
        yield temporary


@contextmanager
def together() -> Iterator[None]:
    """Let all that is replaced inside the block take its place at its end; where the block fails, nothing does."""
    staged: dict[Path, Path] = {}
    token = _staged.set(staged)
    try:
        yield
        for path, temporary in staged.items():
            with _writing(path):
                _put(temporary, path)
    finally:
        _staged.reset(token)
        for temporary in staged.values():
            _remove(temporary)


def staged(path: Path) -> Path:
    """Return where the content of `path` is: in its place, or where it waits for the end of `together()`."""
    waiting = _staged.get() or {}
    for place in (path, *path.parents):
        if place in waiting:
            return waiting[place] / path.relative_to(place)
    return path


@contextmanager
def _temporary(path: Path, at_once: bool) -> Iterator[Path]:
    path = staged(path)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear_up_after_the_dead(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    waiting = _staged.get()
    # Whatever lies inside a temporary folder is out of sight, and takes its place there.
    inside = any(_OWN.fullmatch(part) for part in path.parent.parts)
    try:
        with _writing(path):
            yield temporary
            if waiting is None or at_once or inside:
                _put(temporary, path)
            else:
                waiting[path] = temporary
    finally:
        if not (waiting or {}).get(path) == temporary:
            _remove(temporary)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn a disk that is full or cannot be written to into one UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = _why_not(error, path)
        if reason is None:
            raise
        raise UserError(
            f"{path}: cannot be written ({reason}); what was there before is unchanged; make room or allow writing "
            f"there ({_free(path)} free), then run `dvc repro` again"
        ) from error


def _why_not(error: Exception, path: Path) -> str | None:
    """Return why `path` cannot be written, None for an error of another kind, such as that of a file being read."""
    if isinstance(error, OSError) and error.errno is not None:
        near = error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(path.parent)
        ours = error.errno in _FULL or (error.errno in _FORBIDDEN and near)
        return error.strerror if ours else None
    found = _IN_WORDS.search(str(error))
    return found.group() if found else None


def _free(path: Path) -> str:
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB"


def _put(temporary: Path, path: Path) -> None:
    """Let a file or folder take the place of what is at `path`."""
    if not temporary.is_dir() or not path.is_dir():
        os.replace(temporary, path)
        return
    previous = path.with_name(f".{path.name}.{os.getpid()}.old.tmp")
    path.rename(previous)
    try:
        temporary.rename(path)
    except BaseException:
        previous.rename(path)
        raise
    _remove(previous)


def _clear_up_after_the_dead(path: Path) -> None:
    """Remove what killed processes left beside `path`; give back what one had moved away and not yet replaced."""
    for sibling in sorted(path.parent.iterdir()):
        own = _OWN.fullmatch(sibling.name)
        if own is None or own["name"] != path.name or _is_another_alive(int(own["pid"])):
            continue
        if own["old"] and not path.exists():
            sibling.rename(path)
        else:
            _remove(sibling)


def _is_another_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()  # in containers a process often has the number of the one that was killed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
