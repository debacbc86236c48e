"""`file:PATH`: a file or folder of this machine, relative to the repository root or absolute."""

import errno
from pathlib import Path

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources.digests import copy_file, inside, require
from pipeline.sources.pins import pinned


def fetch(source: Source, folder: Path) -> dict[str, str]:
    """Copy a file, or the files of a folder that `source.sha256` names, and return the sha256 of every file.

    Raises UserError when one is absent, lies outside the folder (also by a link) or has another hash than the pin.
    """
    try:
        return _fetched(Path(source.uri.removeprefix("file:")), source, folder)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UserError("the path is longer than this system takes; correct the uri") from None


def _fetched(origin: Path, source: Source, folder: Path) -> dict[str, str]:
    pins = pinned(source)
    if isinstance(pins, str):
        if not origin.is_file():
            found = "a folder" if origin.is_dir() else "a special file" if origin.exists() else "nothing"
            raise UserError(f"expected a file there, got {found}; correct the path, or map each file to its sha256")
        return {origin.name: _copied(origin, pins, folder / origin.name)}
    if not origin.is_dir() or not pins:
        raise UserError("expected a folder there and at least one of its files in sha256; correct path or sha256")
    return {name: _copied(_below(origin, name), pin, folder / name) for name, pin in sorted(pins.items())}


def _below(origin: Path, name: str) -> Path:
    path = origin / inside(name)
    if not path.resolve().is_relative_to(origin.resolve()):
        raise UserError(
            f"{name!r} is a link that leaves the folder and is refused; put a copy of the file into the folder"
        )
    if not path.is_file():
        raise UserError(f"the folder has no file {name!r}; correct the keys of sha256")
    return path


def _copied(path: Path, pin: str, destination: Path) -> str:
    digest = copy_file(path, destination)
    require(path.name, pin, digest)
    return digest
