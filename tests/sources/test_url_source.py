"""`url:` sources: one pinned file of a web server, which may be broken, moved or hostile."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources import cache, digests
from pipeline.sources.fetching import fetch
from tests.sources.file_server import Files, serving
from tests.sources.wheels import tree

CONTENT = b"weights\n" * 500_000  # more than what is read at once
PIN = hashlib.sha256(CONTENT).hexdigest()
OUT = Path("out/x")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TOXICITY_DOWNLOAD_CACHE", raising=False)
    with serving({"/release/a%20model.ckpt": CONTENT, "/other": b"other\n"}) as server:
        yield server


def get(uri: str, sha256: str | dict[str, str | None] | None = PIN) -> dict[str, object]:
    return fetch("x", Source(uri=f"url:{uri}", sha256=sha256), OUT)


def left() -> list[str]:
    """Return what stands in the output and the cache, but for the cache's own lock."""
    found = [path for folder in (Path("out"), cache.folder()) for path in folder.rglob("*") if path.is_file()]
    return [path.as_posix() for path in found if path.name != cache.LOCK]


def test_the_file_has_the_name_of_its_address_or_the_one_given_and_a_second_fetch_asks_nothing(server: Files) -> None:
    address = f"{server.url}/release/a%20model.ckpt"
    assert get(address)["sha256"] == {"a model.ckpt": PIN}
    assert tree(OUT) == {"a model.ckpt": CONTENT}

    entry = get(f"{address}#weights.ckpt")
    assert entry == {"uri": f"url:{address}#weights.ckpt", "sha256": {"weights.ckpt": PIN}}
    assert tree(OUT) == {"weights.ckpt": CONTENT}
    assert server.requests == ["/release/a%20model.ckpt"]


def test_a_redirection_on_the_same_machine_is_followed(server: Files) -> None:
    server.redirections["/latest"] = f"{server.url}/release/a%20model.ckpt"
    assert get(f"{server.url}/latest")["sha256"] == {"latest": PIN}


@pytest.mark.parametrize("target", ["http://198.51.100.7/x", "ftp://127.0.0.1/x", "file:///etc/hostname", "//[::1"])
def test_a_redirection_to_where_others_listen_in_is_refused(target: str, server: Files) -> None:
    server.redirections["/latest"] = target
    with pytest.raises(
        UserError, match=r"redirects to .* which is not https, and is refused|answered 302|the server did not give"
    ):
        get(f"{server.url}/latest")
    assert left() == []


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://198.51.100.7/model.ckpt", "https alone"),
        ("http://example.org/model.ckpt", "https alone"),
        ("ftp://example.org/model.ckpt", "https alone"),
        ("file:///etc/hostname", "https alone"),
        ("https:///model.ckpt", "https alone"),
        ("https://example.org", "https alone"),
        ("https://example.org:port/model.ckpt", "https alone"),
        ("https://somebody:secret@example.org/model.ckpt", "without a user name or password"),
        ("https://example.org/model.ckpt#../up", "could leave the target folder"),
        ("https://example.org/a/..", "could leave the target folder"),
        ("https://example.org/%2e%2e%2fup", "could leave the target folder"),
    ],
)
def test_what_is_no_safe_address_is_refused_before_anything_is_asked(address: str, said: str, server: Files) -> None:
    with pytest.raises(UserError, match=said):
        get(address)
    assert left() == []


def test_another_content_than_the_pinned_one_is_not_kept(server: Files) -> None:
    other = hashlib.sha256(b"other\n").hexdigest()
    with pytest.raises(UserError, match=f"other: expected sha256 {PIN} .*, got {other}"):
        get(f"{server.url}/other")
    assert left() == []


def test_a_connection_that_ends_early_leaves_nothing_and_the_next_try_succeeds(server: Files) -> None:
    server.announced = len(CONTENT) + 1
    with pytest.raises(UserError, match="the connection ended after 4,000,000 of 4,000,001 bytes; nothing was kept"):
        get(f"{server.url}/release/a%20model.ckpt")
    assert left() == []

    server.announced = None
    assert get(f"{server.url}/release/a%20model.ckpt")["sha256"] == {"a model.ckpt": PIN}


def test_a_file_above_the_bound_is_refused_by_what_is_announced_and_by_what_comes(
    server: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "MAX_FILE_BYTES", 1 << 20)
    with pytest.raises(UserError, match="announces 4,000,000 bytes, above the bound of 1,048,576"):
        get(f"{server.url}/release/a%20model.ckpt")
    server.announced = 1000  # and then nothing more is read than that
    with pytest.raises(UserError, match="expected sha256"):
        get(f"{server.url}/release/a%20model.ckpt")
    assert left() == []


def test_a_file_that_is_not_there_is_told_with_its_status(server: Files) -> None:
    with pytest.raises(UserError, match=rf"^x: url:{server.url}/gone: the server answered 404; check the address"):
        get(f"{server.url}/gone")


def test_a_server_that_is_not_there_is_told_with_the_reason(server: Files) -> None:
    with pytest.raises(UserError, match="the server did not give it .*refused.*; check the network"):
        get("http://127.0.0.1:1/model.ckpt")


@pytest.mark.parametrize(
    ("sha256", "said"), [({"a": PIN}, "the one hash of the file"), (None, "sha256 is left to fill; run `make pin")]
)
def test_a_pin_of_another_kind_is_refused(sha256: dict[str, str | None] | None, said: str, server: Files) -> None:
    with pytest.raises(UserError, match=said):
        get(f"{server.url}/other", sha256)
    assert server.requests == []
