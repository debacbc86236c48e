"""Fetch pinned things and check every file: wheels of a package index, repositories of a model hub,
files of web servers and of this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config.fields import Source
from pipeline.io.atomic import replacing_folder
from pipeline.io.errors import UserError
from pipeline.sources import file, hub, pypi, url
from pipeline.sources.digests import bounded, shown

SCHEMES: dict[str, Callable[[Source, Path], dict[str, str]]] = {
    "pypi": pypi.fetch,
    "hub": hub.fetch,
    "url": url.fetch,
    "file": file.fetch,
}


def fetch(name: str, source: Source, target: Path) -> dict[str, Any]:
    """Put the pinned files of `source` into the folder `target` and return its entry for a manifest.

    The entry is {"uri": ..., "sha256": {path below target: sha256 of that file}}. `target` is replaced as a whole,
    and only when everything was fetched and checked. Raises UserError that begins with `name` and the pinned thing.
    """
    scheme = source.uri.partition(":")[0]
    try:
        with replacing_folder(target, at_once=True) as folder:  # what is fetched is read before the stage ends
            with bounded():
                digests = SCHEMES[scheme](source, folder)
    except UserError as error:
        raise UserError(f"{name}: {_pinned_thing(source.uri)}: {error}") from None
    return {"uri": source.uri, "sha256": dict(sorted(digests.items()))}


def _pinned_thing(uri: str) -> str:
    uri = uri.partition("#")[0] if uri.startswith("pypi:") else uri  # a list of members can fill a screen
    return shown(uri, longest=200)
