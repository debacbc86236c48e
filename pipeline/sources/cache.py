"""L1: downloads kept by their sha256 outside every DVC output, since DVC deletes outputs before a stage runs."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.sources.digests import sha256_of

logger = logging.getLogger(__name__)


def folder() -> Path:
    """Return the cache folder: `.cache/downloads`, or what TOXICITY_DOWNLOAD_CACHE names."""
    return Path(os.environ.get("TOXICITY_DOWNLOAD_CACHE") or Path(".cache") / "downloads")


def kept(sha256: str) -> Path | None:
    """Return the kept file with this sha256, hashed again; drop it and return None when its content has changed."""
    path = folder() / sha256
    if not path.is_file():
        return None
    if sha256_of(path) == sha256:
        return path
    logger.warning("%s: no longer what was kept under this hash; dropped", path)
    path.unlink()
    return None


def keep(file: Path, sha256: str) -> Path:
    """Move a file whose sha256 was checked into the cache and return its place there."""
    return file.replace(folder() / sha256)


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder on the cache's file system that is gone after the block."""
    folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder(), prefix="partial-") as name:
        yield Path(name)
