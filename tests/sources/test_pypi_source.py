"""`pypi:` sources through pip's real client."""

import importlib.util
from pathlib import Path

import pytest

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources.fetching import fetch
from tests.sources.wheels import Wheels, digest, tree

ROWS = {
    "sample/data/a.txt": b"first\n",
    "sample/data/deep/b.txt": b"second\n",
    "sample/__init__.py": b"raise SystemExit",
}
OTHER_HASH = "0" * 64
LOCK = {".cache/downloads/.lock"}  # all that a cache without a download holds


def test_only_named_members_arrive_and_nothing_is_installed(wheels: Wheels) -> None:
    entry = fetch("data.sources.x", wheels.source(ROWS, "sample/data/"), Path("out/x"))

    assert tree(Path("out")) == {"x/a.txt": b"first\n", "x/deep/b.txt": b"second\n"}
    assert entry["uri"] == "pypi:sample==1.0#sample/data/"
    assert entry["sha256"] == {name: digest(Path("out/x") / name) for name in ("a.txt", "deep/b.txt")}
    assert importlib.util.find_spec("sample") is None


def test_a_wrong_hash_names_both_and_leaves_nothing(wheels: Wheels) -> None:
    true = wheels.build(ROWS)

    with pytest.raises(UserError) as caught:
        fetch("model.source", Source(uri="pypi:sample==1.0#sample/data/", sha256=OTHER_HASH), Path("out/x"))

    for named in ("model.source", "pypi:sample==1.0", true, OTHER_HASH):
        assert named in str(caught.value)
    assert tree(Path()).keys() <= LOCK
    assert list(Path("out").iterdir()) == []


def test_a_failed_fetch_leaves_the_earlier_target_as_it_was(wheels: Wheels) -> None:
    fetch("x", wheels.source(ROWS, "sample/data/"), Path("out/x"))
    before = tree(Path("out"))

    with pytest.raises(UserError):
        fetch("x", Source(uri="pypi:sample==1.0#sample/data/", sha256=OTHER_HASH), Path("out/x"))

    assert tree(Path("out")) == before


def test_a_new_fetch_replaces_the_earlier_target_as_a_whole(wheels: Wheels) -> None:
    fetch("x", wheels.kept(ROWS, "sample/data/"), Path("out/x"))
    fetch("x", wheels.kept({"sample/new.txt": b"new\n"}, "sample/new.txt"), Path("out/x"))

    assert tree(Path("out")) == {"x/new.txt": b"new\n"}


def test_a_pinned_wheel_is_not_fetched_again(wheels: Wheels, caplog: pytest.LogCaptureFixture) -> None:
    source = wheels.source(ROWS, "sample/data/")
    first = fetch("x", source, Path("out/x"))
    wheels.path.unlink()  # pip could not find it any more

    with caplog.at_level("INFO"):
        assert fetch("x", source, Path("out/y")) == first
    assert "already there" in caplog.text
    assert tree(Path("out/y")) == tree(Path("out/x"))


def test_a_cached_wheel_that_was_damaged_is_fetched_again(wheels: Wheels) -> None:
    source = wheels.source(ROWS, "sample/data/")
    kept = wheels.cache / str(source.sha256)
    fetch("x", source, Path("out/x"))
    kept.write_bytes(kept.read_bytes()[:-1])

    fetch("x", source, Path("out/y"))

    assert tree(Path("out/y")) == tree(Path("out/x"))
    assert digest(kept) == source.sha256


def test_the_cache_can_lie_elsewhere(wheels: Wheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOXICITY_DOWNLOAD_CACHE", str(tmp_path / "shared"))
    source = wheels.source(ROWS, "sample/data/a.txt")

    fetch("x", source, Path("out/x"))

    assert tree(tmp_path / "shared").keys() == {source.sha256, ".lock"}
    assert not wheels.cache.exists()


def test_pips_failure_is_one_line_that_says_why(wheels: Wheels) -> None:
    wheels.build(ROWS)

    with pytest.raises(UserError, match=r"^x: pypi:sample==9\.9: pip could not fetch it: .*sample==9\.9") as caught:
        fetch("x", Source(uri="pypi:sample==9.9#sample/data/", sha256=OTHER_HASH), Path("out/x"))

    assert "\n" not in str(caught.value)
    assert tree(Path()).keys() <= LOCK


def test_credentials_in_pips_words_are_not_repeated(wheels: Wheels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONSTRAINT", "s3://someone:pass@word@mirror.invalid/pins.txt")  # pip quotes it as it is

    with pytest.raises(UserError, match=r"mirror\.invalid") as caught:
        fetch("x", wheels.source(ROWS, "sample/data/"), Path("out/x"))

    assert not any(secret in str(caught.value) for secret in ("someone", "pass", "word@"))


@pytest.mark.parametrize(
    "uri",
    ["pypi:sample#sample/data/", "pypi:sample==1.*#a", "pypi:sample==1.0", "pypi:sample==1.0#a,,b", "pypi:--pre==1#a"],
)
def test_a_uri_without_package_version_and_members_is_refused(uri: str, wheels: Wheels) -> None:
    with pytest.raises(UserError, match="expected pypi:PACKAGE==VERSION#member"):
        fetch("x", Source(uri=uri, sha256=OTHER_HASH), Path("out/x"))


def test_a_wheel_is_pinned_by_one_hash(wheels: Wheels) -> None:
    with pytest.raises(UserError, match="one hash of the wheel"):
        fetch("x", Source(uri="pypi:sample==1.0#a", sha256={"a": OTHER_HASH}), Path("out/x"))
