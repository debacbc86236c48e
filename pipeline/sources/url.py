"""`url:https://HOST/PATH` or `url:https://HOST/PATH#NAME`: one pinned file of a web server, kept as NAME.

Plain http is for this machine alone (127.0.0.1), where nobody listens in.
"""

import http.client
import ipaddress
import logging
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources import cache, digests
from pipeline.sources.digests import copy_file, copy_hashed, inside, require, shown
from pipeline.sources.pins import pinned

logger = logging.getLogger(__name__)

SILENCE = 60  # seconds without a byte after which a server counts as gone


def fetch(source: Source, folder: Path) -> dict[str, str]:
    """Copy the file into `folder` and return its sha256.

    Raises UserError for a malformed or unsafe uri, a server that does not give the file whole, and another hash than
    the pinned one. What arrived of a download that breaks off is removed.
    """
    pin = pinned(source)
    if not isinstance(pin, str):
        raise UserError("expected sha256 to be the one hash of the file, got a mapping; write the file's own hash")
    url, name = _parsed(source.uri)
    kept = cache.kept(pin)
    if kept is not None:
        logger.info("%s: already there", name)
    return {name: copy_file(kept or _downloaded(url, name, pin)[0], folder / name)}


def learn(source: Source) -> Source:
    """Download the file and return the source with the hash that it has now."""
    url, name = _parsed(source.uri)
    return Source(uri=source.uri, sha256=_downloaded(url, name, pin=None)[1])


def _parsed(uri: str) -> tuple[str, str]:
    """Return the address and the name of the file; raise UserError for what is unsafe or no address."""
    address, _, name = uri.removeprefix("url:").partition("#")
    parts = _split(address)
    if parts is None or not _is_safe(parts) or not parts.path.strip("/"):
        raise UserError("expected url:https://HOST/PATH or url:https://HOST/PATH#NAME (https alone); correct the uri")
    if "@" in parts.netloc:
        raise UserError("expected an address without a user name or password, which would be written down; remove it")
    return address, inside(name or unquote(PurePosixPath(parts.path).name)).name


def _split(address: str) -> SplitResult | None:
    try:
        parts = urlsplit(address)
        return parts if parts.hostname and address.isprintable() and " " not in address and parts.port != 0 else None
    except ValueError:
        return None


def _is_safe(parts: SplitResult) -> bool:
    return parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or ""))


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _downloaded(url: str, name: str, pin: str | None) -> tuple[Path, str]:
    """Return where the file is kept, and its sha256."""
    with cache.scratch() as scratch:
        file = scratch / "file"
        logger.info("%s: fetching", name)
        with _Body(url) as body:
            digest = copy_hashed(body, file, body.announced or 0)
        if pin is not None:
            require(name, pin, digest)
        return cache.keep(file, digest), digest


class _OnlySafe(urllib.request.HTTPRedirectHandler):
    """Follow no redirection to where the answer could be listened to or changed on its way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request that follows the redirection; raise UserError where it is unsafe."""
        old, new = _split(req.full_url), _split(newurl)
        same = old is not None and new is not None and old.scheme == new.scheme
        if new is None or not _is_safe(new) or not (same or new.scheme == "https"):
            raise UserError(f"redirects to '{shown(newurl)}', which is not https, and is refused; name another address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Body:
    """What a server sends, as a file whose errors are those of a user to read."""

    def __init__(self, url: str) -> None:
        try:
            self._response = urllib.request.build_opener(_OnlySafe()).open(url, timeout=SILENCE)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: redirected to no address
            raise _failed(error) from None
        size = self._response.headers.get("Content-Length", "")
        self.announced = int(size) if size.isdecimal() else None
        self._received = 0
        if (self.announced or 0) > digests.MAX_FILE_BYTES:
            self._response.close()
            raise UserError(
                f"the server announces {self.announced:,} bytes, above the bound of {digests.MAX_FILE_BYTES:,}, and is "
                "refused; name a smaller file"
            )

    def __enter__(self) -> "_Body":
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; raise UserError when the connection breaks or ends before the announced size."""
        try:
            chunk: bytes = self._response.read(size)
        except (OSError, http.client.HTTPException) as error:
            raise _failed(error) from None
        self._received += len(chunk)
        if not chunk and self.announced is not None and self._received < self.announced:
            raise UserError(
                f"the connection ended after {self._received:,} of {self.announced:,} bytes; nothing was kept; try "
                "again"
            )
        return chunk


def _failed(error: Exception) -> UserError:
    if isinstance(error, urllib.error.HTTPError):
        return UserError(f"the server answered {error.code}; check the address, or try again later")
    cause = getattr(error, "reason", error)
    reason = shown(getattr(cause, "strerror", None) or str(cause) or type(cause).__name__)
    return UserError(f"the server did not give it ({reason}); check the network, the proxy and the address; try again")
