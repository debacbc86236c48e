"""The header of a GGUF held against the size of its file, before a library believes it.

A reader that trusts a declared length runs out of memory over a file of a hundred bytes. Layout: ggml, docs/gguf.md,
versions 2 and 3, little-endian.
"""

import os
import struct
from pathlib import Path
from typing import IO

from pipeline.io.errors import UserError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UNSIGNED = {0: "<B", 2: "<H", 4: "<I", 10: "<Q"}
_STRING, _ARRAY = 8, 9
_LAYERS = ".block_count"
_REMEDY = "pin a sound file, or choose another source"


def check_header(path: Path) -> None:
    """Raise UserError unless everything that the header of the GGUF `path` declares fits into the file."""
    with path.open("rb") as file:
        header = _Header(file, path.name)
        if header.take(len(MAGIC)) != MAGIC:
            raise header.broken("it does not begin with GGUF")
        version = header.number("<I")
        if version not in VERSIONS:
            raise header.broken(f"version {version} is none of {VERSIONS}, or its bytes are swapped")
        tensors, keys = header.number("<Q"), header.number("<Q")
        for _ in range(keys):
            _check_key(header, tensors)
        for _ in range(tensors):
            _check_tensor(header)


class _Header:
    """Bytes that are taken from the front of a file and never beyond its end."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name
        self._left = os.fstat(file.fileno()).st_size

    def broken(self, problem: str) -> UserError:
        return UserError(f"{self._name}: not a sound GGUF: {problem}; {_REMEDY}")

    def skip(self, count: int) -> None:
        self._claim(count)
        self._file.seek(count, os.SEEK_CUR)

    def take(self, count: int) -> bytes:
        self._claim(count)
        return self._file.read(count)

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def _claim(self, count: int) -> None:
        if count > self._left:
            raise self.broken(f"it declares {count:,} bytes where {self._left:,} are left")
        self._left -= count


def _check_key(header: _Header, tensors: int) -> None:
    key = header.take(header.number("<Q"))
    kind = header.number("<I")
    if key.endswith(_LAYERS.encode()) and kind in _UNSIGNED:
        layers = header.number(_UNSIGNED[kind])
        if layers > tensors:  # a library would build them all before it misses their weights
            raise header.broken(f"{_LAYERS[1:]} is {layers:,}, and it holds {tensors:,} tensors")
    elif kind == _ARRAY:
        _check_array(header)
    else:
        _check_value(header, kind)


def _check_array(header: _Header) -> None:
    kind, count = header.number("<I"), header.number("<Q")
    if kind in _SCALAR_BYTES:
        header.skip(count * _SCALAR_BYTES[kind])
        return
    if kind == _ARRAY:
        raise header.broken("it holds an array of arrays")
    for _ in range(count):  # each takes eight bytes or more, so this ends with the file
        _check_value(header, kind)


def _check_value(header: _Header, kind: int) -> None:
    if kind == _STRING:
        header.skip(header.number("<Q"))
    elif kind in _SCALAR_BYTES:
        header.skip(_SCALAR_BYTES[kind])
    else:
        raise header.broken(f"it holds a value of the unknown type {kind}")


def _check_tensor(header: _Header) -> None:
    header.skip(header.number("<Q"))
    dimensions = header.number("<I")
    if dimensions > MAX_DIMENSIONS:
        raise header.broken(f"a tensor has {dimensions:,} dimensions, above the format's {MAX_DIMENSIONS}")
    header.skip(8 * dimensions + 4 + 8)  # the dimensions, the type, the offset
