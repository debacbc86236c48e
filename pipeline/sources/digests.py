"""L1: copy and hash files in one pass, with a progress bar on anything over a second."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tqdm import tqdm

from pipeline.errors import UserError

CHUNK_BYTES = 1 << 20


def copy_hashed(reader: IO[bytes], destination: Path, size: int) -> str:
    """Write all of `reader` to `destination` and return its sha256.

    `size` is in bytes and only scales the progress bar. Raises FileExistsError when `destination` exists.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    with destination.open("xb") as writer:
        return _drained(reader, size, destination.name, writer.write)


def copy_file(path: Path, destination: Path) -> str:
    """Copy one file, following links, and return its sha256."""
    with path.open("rb") as reader:
        return copy_hashed(reader, destination, path.stat().st_size)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 hex digits."""
    with path.open("rb") as reader:
        return _drained(reader, path.stat().st_size, f"checking {path.name[:12]}", lambda chunk: None)


def require(what: str, expected: str, got: str) -> None:
    """Raise UserError naming both hashes unless `got` is the pinned sha256 of `what`."""
    if got != expected:
        raise UserError(
            f"{what}: expected sha256 {expected} (pinned), got {got}; nothing was kept. The place it came from holds "
            "another file than the one pinned: check the version and the mirror, and pin the new hash only if you "
            "trust that file"
        )


def _drained(reader: IO[bytes], size: int, label: str, write: Callable[[bytes], object]) -> str:
    digest = hashlib.sha256()
    with tqdm(total=size, desc=label, unit="B", unit_scale=True, disable=None, delay=1.0, leave=False) as bar:
        while chunk := reader.read(CHUNK_BYTES):
            digest.update(chunk)
            write(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
