"""Copy and hash files in one pass, with a progress bar on anything over a second."""

import errno
import hashlib
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from tqdm import tqdm

from pipeline.io.errors import UserError

CHUNK_BYTES = 1 << 20
MAX_FILE_BYTES = 64 << 30  # public checkpoints come in files of 5 to 50 GiB


class Readable(Protocol):
    """What bytes can be read from, piece by piece, until there are none."""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most `size` bytes, or none at the end."""


def copy_hashed(reader: Readable, destination: Path, size: int) -> str:
    """Write all of `reader` to `destination` and return its sha256.

    `size` is in bytes and only scales the progress bar. Raises FileExistsError when `destination` exists.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("xb") as writer:
        return _drained(reader, size, destination.name, writer.write)


def copy_file(path: Path, destination: Path) -> str:
    """Copy one file, following links, and return its sha256."""
    with _opened(path) as reader:
        return copy_hashed(reader, destination, path.stat().st_size)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    with _opened(path) as reader:
        return _drained(reader, path.stat().st_size, f"checking {path.name[:12]}", lambda chunk: None)


def require(what: str, expected: str, got: str) -> None:
    """Raise UserError naming both hashes unless `got` is the pinned sha256 of `what`."""
    if got != expected:
        raise UserError(
            f"{what}: expected sha256 {expected} (pinned), got {got}; nothing was kept. The place it came from holds "
            "another file than the one pinned: check the version and the mirror, and pin the new hash only if you "
            "trust that file"
        )


@contextmanager
def bounded() -> Iterator[None]:
    """Let no file grow beyond MAX_FILE_BYTES during the block, whoever writes it: we, a library, or a child process.

    A server may send more than it announced; the kernel stops it before the disk is full. Raises UserError then.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    lowered = min(limit for limit in (MAX_FILE_BYTES, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_FSIZE, (lowered, hard))
    try:
        yield
    except OSError as error:
        if error.errno != errno.EFBIG:
            raise
        raise UserError(
            f"a file of it is larger than the bound of {lowered:,} bytes and is refused; name smaller files"
        ) from None
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        reader = path.open("rb")
    except OSError as error:
        raise _unreadable(path.name, error) from None
    with reader:
        yield reader


def _unreadable(name: str, error: OSError) -> UserError:
    return UserError(
        f"{shown(name)}: cannot be read ({error.strerror}); check its permissions and its disk, or put a readable file "
        "in its place"
    )


def _drained(reader: Readable, size: int, label: str, write: Callable[[bytes], object]) -> str:
    digest = hashlib.sha256()
    with tqdm(total=size, desc=label, unit="B", unit_scale=True, disable=None, delay=1.0, leave=False) as bar:
        while chunk := _chunk(reader, label):
            digest.update(chunk)
            write(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def _chunk(reader: Readable, label: str) -> bytes:
    try:
        return reader.read(CHUNK_BYTES)
    except OSError as error:
        raise _unreadable(label, error) from None


_DRIVE_LETTER = re.compile(r"[A-Za-z]:")
MAX_NAME_BYTES = 255  # of one file or folder, on every file system that we know
MAX_PATH_BYTES = 1024


def inside(path: str) -> PurePosixPath:
    """Return `path` as a relative path of plain names; raise UserError when it could leave the folder it is put in."""
    parts = path.split("/")
    if "\\" in path or not path.isprintable() or _DRIVE_LETTER.match(path) or {"", ".", ".."} & set(parts):
        raise UserError(
            f"'{shown(path)}' could leave the target folder and is refused; use plain names joined by single slashes "
            "(no leading /, no .., no backslash, no drive letter, no control character)"
        )
    if max(len(part.encode()) for part in parts) > MAX_NAME_BYTES or len(path.encode()) > MAX_PATH_BYTES:
        raise UserError(f"'{shown(path)}' is a longer name than file systems take; name another file")
    return PurePosixPath(*parts)


def shown(text: str, longest: int = 80) -> str:
    """Return somebody else's text as it may stand in a message: one line, no control characters, and cut."""
    escaped = "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in " ".join(text.split())
    )
    return escaped if len(escaped) <= longest else escaped[:longest] + "..."
