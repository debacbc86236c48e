"""`file:` sources: copied, checked, and never from outside the folder they name."""

from pathlib import Path

import pytest

from pipeline.config.fields import Source
from pipeline.io.errors import UserError
from pipeline.sources.fetching import fetch
from tests.sources.wheels import digest, tree


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    origin = Path("given")
    (origin / "deep").mkdir(parents=True)
    (origin / "a.txt").write_text("first\n")
    (origin / "deep" / "b.txt").write_text("second\n")
    (origin / "unnamed.txt").write_text("third\n")
    return origin


def test_a_file_is_copied_under_its_own_name(origin: Path) -> None:
    source = Source(uri="file:given/a.txt", sha256=digest(origin / "a.txt"))

    assert fetch("x", source, Path("out")) == {"uri": source.uri, "sha256": {"a.txt": source.sha256}}
    assert tree(Path("out")) == {"a.txt": b"first\n"}


@pytest.mark.parametrize("absolute", [False, True])
def test_only_the_named_files_of_a_folder_are_copied(absolute: bool, origin: Path) -> None:
    pins = {name: digest(origin / name) for name in ("deep/b.txt", "a.txt")}
    place = origin.resolve() if absolute else origin

    assert fetch("x", Source(uri=f"file:{place}", sha256=pins), Path("out"))["sha256"] == pins
    assert tree(Path("out")) == {"a.txt": b"first\n", "deep/b.txt": b"second\n"}


def test_a_wrong_hash_in_a_folder_leaves_nothing(origin: Path) -> None:
    pins = {"a.txt": digest(origin / "a.txt"), "deep/b.txt": "0" * 64}

    with pytest.raises(UserError) as caught:
        fetch("data.sources.x", Source(uri="file:given", sha256=pins), Path("out/x"))

    for named in ("data.sources.x", "b.txt", "0" * 64, digest(origin / "deep" / "b.txt")):
        assert named in str(caught.value)
    assert list(Path("out").iterdir()) == []


def test_a_key_or_link_that_leaves_the_folder_is_refused(origin: Path) -> None:
    Path("secret.txt").write_text("outside\n")
    (origin / "link.txt").symlink_to(Path("secret.txt").resolve())

    for key in ("../secret.txt", "link.txt"):
        with pytest.raises(UserError, match="refused"):
            fetch("x", Source(uri="file:given", sha256={key: digest(Path("secret.txt"))}), Path("out"))


@pytest.mark.parametrize("sha256", ["0" * 64, {"absent.txt": "0" * 64}, {}])
def test_what_is_not_there_is_named(sha256: str | dict[str, str], origin: Path) -> None:
    with pytest.raises(UserError, match="^x: file:given: .*(expected a f|has no file 'absent.txt')"):
        fetch("x", Source(uri="file:given", sha256=sha256), Path("out"))
