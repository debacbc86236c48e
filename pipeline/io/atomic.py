"""Files and folders that appear whole or not at all, one by one or all of a stage together.

What is replaced inside `together()` waits beside its place, in temporary siblings, until the block ends without an
error: a stage that fails, whatever the reason, leaves what was there before. `staged` tells where such content waits.
"""

import errno
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pipeline.io.errors import UserError

# A temporary sibling of <name>; with .old, what was at <name> before.
_SIBLING = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)(?P<old>\.old)?\.tmp", re.DOTALL)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_BROKEN = {errno.EIO}
_FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}
# Libraries in other languages (safetensors, Arrow, torch: the last of these) tell of them in words alone.
_IN_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|Read-only file system|unexpected pos \d+ vs \d+"
)
MAKE_ROOM = "make room"

_waiting: ContextVar[dict[Path, Path] | None] = ContextVar("waiting", default=None)  # place -> temporary, in order


@contextmanager
def replacing(path: Path, at_once: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of the file `path` that takes its place when the block ends without an error.

    Inside `together()` it takes its place at the end of that block, unless `at_once`. Raises UserError when the disk is
    full or cannot be written to.
    """
    with writing(path), _temporary(path, at_once) as temporary:
        yield temporary


@contextmanager
def replacing_folder(path: Path, at_once: bool = False) -> Iterator[Path]:
    """Yield an empty temporary sibling of the folder `path`; otherwise as `replacing`."""
    with writing(path), _temporary(path, at_once) as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def together() -> Iterator[None]:
    """Let all that is replaced inside the block take its place at its end; where the block fails, nothing does."""
    waiting: dict[Path, Path] = {}
    token = _waiting.set(waiting)
    try:
        yield
        _put(waiting)
    finally:
        _waiting.reset(token)
        for temporary in waiting.values():
            _remove(temporary)


def staged(path: Path) -> Path:
    """Return where the content of `path` is: in its place, or where it waits for the end of `together()`."""
    waiting = _waiting.get() or {}
    for place in (path, *path.parents):
        if place in waiting:
            return waiting[place] / path.relative_to(place)
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a disk that is full, or that does not allow writing at `path`, into one UserError naming `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = _why_not(error, path)
        if found is None:
            raise
        reason, remedy = found
        raise UserError(
            f"{_place(path)}: cannot be written ({reason}; {_free(path)} free there); nothing is half-written; "
            f"{remedy}, then run `dvc repro` again (`dvc checkout` gives back what was recorded before)"
        ) from error


@contextmanager
def _temporary(path: Path, at_once: bool) -> Iterator[Path]:
    """Yield a name beside `path`; what is there at the end of the block takes the place of `path`, now or later."""
    place = path if at_once else staged(path)
    # Inside a temporary folder nobody looks: what is written there is in its place at once.
    hidden = place != path or any(_SIBLING.fullmatch(part) for part in path.parts)
    place.parent.mkdir(parents=True, exist_ok=True)
    _clear_up_after_the_dead(place)
    temporary = _sibling(place)
    waiting = _waiting.get()
    try:
        yield temporary
        if waiting is None or at_once or hidden:
            _put({place: temporary})
        else:
            waiting[place] = temporary
    except BaseException:
        _remove(temporary)
        raise


def _sibling(path: Path, kind: str = "") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}{kind}.tmp")


def _previous(path: Path) -> Path:
    return _sibling(path, ".old")


def _place(path: Path) -> Path:
    """Return `path` with the names of temporary folders as they will be."""
    return Path(*(match["name"] if (match := _SIBLING.fullmatch(part)) else part for part in path.parts))


def _why_not(error: Exception, path: Path) -> tuple[str, str] | None:
    """Return why `path` cannot be written, and the remedy; None for another kind of error, as in a file being read."""
    if isinstance(error, OSError) and error.errno is not None:
        named = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, str | bytes) else ""
        if error.errno in _FULL:
            return f"{error.strerror}{named}", MAKE_ROOM
        if error.errno in _BROKEN:
            return f"{error.strerror}{named}", "check the disk"
        if error.errno in _FORBIDDEN and _is_near(error.filename, path):
            return f"{error.strerror}{named}", "allow writing there or remove what is in the way"
        return None
    found = _IN_WORDS.search(str(error))
    return (found.group(), MAKE_ROOM) if found else None


def _is_near(name: object, path: Path) -> bool:
    """Return whether the file that an error names lies beside, below or above `path`."""
    if not isinstance(name, str | bytes):
        return False
    named, place = Path(os.fsdecode(name)).absolute(), path.absolute()
    return named.is_relative_to(place.parent) or place.is_relative_to(named)


def _free(path: Path) -> str:
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB"


def _put(waiting: Mapping[Path, Path]) -> None:
    """Let temporaries take the place of what is there: all of them or, where one cannot, none.

    What was there keeps another name until all are in place. An exception may come at any point: Ctrl-C raises one.
    """
    filled = {path for path in waiting if os.path.lexists(path)}
    begun: list[Path] = []
    try:
        for path, temporary in waiting.items():
            begun.append(path)
            with writing(path):
                if path in filled:
                    _keep(path, is_folder=temporary.is_dir())
                os.replace(temporary, path)
    except BaseException:
        for path in reversed(begun):
            _give_back(path, path in filled, waiting[path])
        raise
    for path in filled:
        _remove(_previous(path))


def _keep(path: Path, is_folder: bool) -> None:
    """Give what is at `path` another name. A file that a file replaces has both: it is never absent."""
    if is_folder or (path.is_dir() and not path.is_symlink()):
        path.rename(_previous(path))
        return
    try:
        os.link(path, _previous(path), follow_symlinks=False)
    except OSError:  # a file system without hard links, or another user's file
        path.rename(_previous(path))


def _give_back(path: Path, was_there: bool, temporary: Path) -> None:
    if os.path.lexists(_previous(path)):
        _remove(path)
        _previous(path).rename(path)
    elif not was_there and not os.path.lexists(temporary):  # it had taken its place
        _remove(path)


def _clear_up_after_the_dead(path: Path) -> None:
    """Remove what killed processes left beside `path`; give back what one had moved away and not yet replaced."""
    for sibling in sorted(path.parent.iterdir()):
        own = _SIBLING.fullmatch(sibling.name)
        if own is None or own["name"] != path.name or _is_written_by_another(sibling, int(own["pid"])):
            continue
        if own["old"] and not os.path.lexists(path):
            sibling.rename(path)
        else:
            _remove(sibling)


def _is_written_by_another(sibling: Path, pid: int) -> bool:
    """Return whether a live process other than this one writes a temporary sibling."""
    import psutil  # late: there is seldom one

    if pid == os.getpid():  # in containers a process often has the number of the one that was killed
        return False
    try:
        process = psutil.Process(pid)
        # A process that is younger than the sibling has inherited the number.
        younger = process.create_time() > os.lstat(sibling).st_mtime + 1
        return not younger and bool(process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, FileNotFoundError):
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
