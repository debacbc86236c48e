"""Downloads kept by their sha256 outside every DVC output, since DVC deletes outputs before a stage runs."""

import errno
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pipeline.io.errors import UserError
from pipeline.sources.digests import sha256_of

logger = logging.getLogger(__name__)

PARTIAL = "partial-"
LOCK = ".lock"
FILES = "files"


def folder() -> Path:
    """Return the cache folder: `.cache/downloads`, or what TOXICITY_DOWNLOAD_CACHE names."""
    return Path(os.environ.get("TOXICITY_DOWNLOAD_CACHE") or Path(".cache") / "downloads")


def kept(sha256: str) -> Path | None:
    """Return the kept file with this sha256, hashed again; None where there is none or its content has changed.

    One that has changed is left for `keep` to replace: to remove it could take away what another process put there.
    """
    path = folder() / sha256
    if not path.is_file():
        return None
    if sha256_of(path) == sha256:
        return path
    logger.warning("%s: no longer what was kept under this hash; not used", path)
    return None


def keep(file: Path, sha256: str) -> Path:
    """Move a file whose sha256 was checked into the cache and return its place there."""
    place = folder() / sha256
    if place.is_dir():
        raise UserError(f"{place}: a folder, where the download of this hash is to be kept; remove it")
    return file.replace(place)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder on the cache's file system that is gone after the block.

    A killed process cannot remove its own; the next one to ask does it. Each holds a lock in its folder, which the
    kernel takes back with the process: a pid in the name would mean another process elsewhere or later. Raises
    UserError when the cache cannot be written.
    """
    partial, lock = _begun()
    with lock:
        try:
            yield partial / FILES
        finally:
            shutil.rmtree(partial)


def _begun() -> tuple[Path, IO[str]]:
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with (folder() / LOCK).open("a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)  # so that nobody takes a folder without a lock yet for a dead one's
            _clear_up_after_the_dead()
            partial = Path(tempfile.mkdtemp(dir=folder(), prefix=PARTIAL))
            lock = (partial / LOCK).open("a")
            fcntl.flock(lock, fcntl.LOCK_EX)
        (partial / FILES).mkdir()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(
            f"{folder()}: the cache of downloads cannot be written ({error.strerror}); make it a folder that you may "
            "write to, or set TOXICITY_DOWNLOAD_CACHE to one"
        ) from None
    return partial, lock


def _clear_up_after_the_dead() -> None:
    for partial in sorted(folder().glob(f"{PARTIAL}*")):
        lock = _locked(partial) if partial.is_dir() and not partial.is_symlink() else None
        if lock is not None:
            with lock:
                shutil.rmtree(partial, ignore_errors=True)  # it is in nobody's way


def _locked(partial: Path) -> IO[str] | None:
    """Return the folder's lock, held until it is closed, or None while a live process holds it or it is not ours."""
    try:
        lock = (partial / LOCK).open("a")
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
