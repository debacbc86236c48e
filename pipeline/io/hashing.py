"""Digests of files, folders and mappings: what a result is known by."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.io.errors import UserError


def file_digest(path: Path) -> str:
    """Return the SHA-256 of one file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """Return the SHA-256 over the sorted (name relative to `folder`, SHA-256) of `files` as 64 hex digits."""
    lines = sorted(f"{path.relative_to(folder).as_posix()} {file_digest(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def mapping_digest(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a mapping as sorted JSON, as 64 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def adapter_fingerprint(folder: Path) -> str:
    """Return the digest of every file below `folder`, by name and content; raise UserError when there is none."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    if not files:
        raise UserError(f"{folder}: expected an adapter's files; run `dvc repro` (or `dvc pull`) to make them")
    return files_digest(folder, files)
