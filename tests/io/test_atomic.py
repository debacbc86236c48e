"""Outputs appear whole or not at all: alone and together, over links, and with errors of a disk in one message."""

import errno
import os
from pathlib import Path

import pytest

from pipeline.io.atomic import replacing, replacing_folder, staged, together, writing
from pipeline.io.errors import UserError
from tests.io.on_disk import contents, dead_process, temporaries


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# One output


def test_a_file_is_there_whole_or_not_at_all() -> None:
    with pytest.raises(ZeroDivisionError), replacing(Path("new/file")) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert contents() == {}
    with replacing(Path("new/file")) as temporary:
        temporary.write_text("whole")
        assert not Path("new/file").exists()
    assert contents() == {"new/file": "whole"}


def test_a_folder_is_replaced_as_a_whole() -> None:
    for name in ("a", "b"):
        with replacing_folder(Path("folder")) as temporary:
            (temporary / name).write_text(name)
    assert contents() == {"folder/b": "b"}
    with pytest.raises(ZeroDivisionError), replacing_folder(Path("folder")) as temporary:
        (temporary / "c").write_text("c")
        raise ZeroDivisionError
    assert contents() == {"folder/b": "b"}


@pytest.mark.parametrize("name", ["a*b", "[a]", "a?", "a.b", "a(b", "^a$", "a\nb", ".hidden", "-a", "ü 🙂", "a.1.tmp"])
def test_names_are_taken_literally(name: str) -> None:
    """What a dead process left beside one name is cleared up there, and nothing beside a name that is alike."""
    dead = dead_process()
    others = ["aXb", "a", "ab", "aaab"]
    for left in (name, *others):
        Path(f".{left}.{dead}.tmp").write_text("stale")
    with replacing(Path(name)) as temporary:
        temporary.write_text("new")
    expected = {f".{other}.{dead}.tmp": "stale" for other in others if other != name}
    assert contents() == expected | {name: "new"}


def test_a_file_takes_the_place_of_a_folder_and_a_folder_that_of_a_file() -> None:
    Path("a").mkdir()
    Path("a/old").write_text("old")
    Path("b").write_text("old")
    with replacing(Path("a")) as file:
        file.write_text("new")
    with replacing_folder(Path("b")) as folder:
        (folder / "new").write_text("new")
    assert contents() == {"a": "new", "b/new": "new"}


# What DVC leaves in the place of an output: with `cache.type` symlink or hardlink, a read-only link into its cache


def test_a_symlink_is_replaced_and_what_it_points_to_stays() -> None:
    Path("cache").mkdir()
    Path("cache/file").write_text("cached")
    Path("cache/folder").mkdir()
    Path("cache/folder/a").write_text("cached")
    for name in ("file", "folder", "gone"):
        Path(name).symlink_to(Path("cache", name))
    with replacing(Path("file")) as file:
        file.write_text("new")
    for name in ("folder", "gone"):
        with replacing_folder(Path(name)) as folder:
            (folder / "a").write_text("new")
    assert not any(Path(name).is_symlink() for name in ("file", "folder", "gone"))
    assert contents("cache") == {"file": "cached", "folder/a": "cached"}
    assert temporaries() == []


def test_a_read_only_hard_link_is_replaced_and_the_cache_stays() -> None:
    Path("cache").mkdir()
    Path("folder").mkdir()
    for name in ("file", "a"):
        Path("cache", name).write_text("cached")
        Path("cache", name).chmod(0o444)
    os.link("cache/file", "file")
    os.link("cache/a", "folder/a")
    with replacing(Path("file")) as file:
        file.write_text("new")
    with replacing_folder(Path("folder")) as folder:
        (folder / "a").write_text("new")
    assert contents() == {"cache/file": "cached", "cache/a": "cached", "file": "new", "folder/a": "new"}


# Several outputs together


def test_outputs_of_a_block_appear_together_at_its_end() -> None:
    Path("a").write_text("old")
    with together():
        with replacing(Path("a")) as file:
            file.write_text("new")
        with replacing_folder(Path("b")) as folder:
            (folder / "c").write_text("new")
        assert Path("a").read_text() == "old" and not Path("b").exists()
        assert staged(Path("a")).read_text() == "new" and staged(Path("b/c")).read_text() == "new"
        assert staged(Path("other")) == Path("other")
    assert contents() == {"a": "new", "b/c": "new"}
    assert staged(Path("a")) == Path("a")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_changes_nothing(error: type[BaseException]) -> None:
    Path("a").write_text("old")
    with pytest.raises(error), together():
        with replacing(Path("a")) as file:
            file.write_text("new")
        with replacing_folder(Path("b")):
            raise error
    assert contents() == {"a": "old"} and not Path("b").exists()


def test_what_is_replaced_at_once_outlives_a_block_that_fails() -> None:
    with pytest.raises(ValueError), together():
        with replacing(Path("kept"), at_once=True) as file:
            file.write_text("kept")
        assert Path("kept").exists()
        raise ValueError
    assert contents() == {"kept": "kept"}


def test_the_last_of_two_writes_of_one_output_is_the_one_that_stays() -> None:
    with together():
        for text in ("first", "last"):
            with replacing(Path("file")) as file:
                file.write_text(text)
            with replacing_folder(Path("folder")) as folder:
                (folder / text).write_text(text)
        assert staged(Path("file")).read_text() == "last"
    assert contents() == {"file": "last", "folder/last": "last"}


def test_a_file_inside_a_folder_that_waits_goes_with_it() -> None:
    with together():
        with replacing_folder(Path("folder")) as folder:
            with replacing(folder / "by its temporary name") as file:
                file.write_text("1")
            assert (folder / "by its temporary name").exists()
        with replacing(Path("folder/by its name")) as file:
            file.write_text("2")
        assert not Path("folder").exists()
    assert contents() == {"folder/by its temporary name": "1", "folder/by its name": "2"}


def test_where_one_output_cannot_take_its_place_none_does() -> None:
    """The last output was never written: the others have taken their places by then, and give them back."""
    Path("file").write_text("old")
    Path("folder").mkdir()
    Path("folder/a").write_text("old")
    before = contents()
    with pytest.raises(FileNotFoundError), together():
        for name in ("file", "fresh"):
            with replacing(Path(name)) as file:
                file.write_text("new")
        with replacing_folder(Path("folder")) as folder:
            (folder / "b").write_text("new")
        with replacing(Path("last")):
            pass
    assert contents() == before


# Disks


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_is_one_message_with_a_remedy(number: int) -> None:
    remedy = "check the disk" if number == errno.EIO else "make room"
    with pytest.raises(
        UserError, match=rf"^new/file: cannot be written \(.*free there\).*half-written; {remedy}, then"
    ):
        with replacing(Path("new/file")):
            raise OSError(number, os.strerror(number))


def test_a_place_that_forbids_writing_is_one_message_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"^out/file: .*Permission denied: out/.*allow writing there or remove"):
        with replacing(Path("out/file")) as temporary:
            raise PermissionError(errno.EACCES, "Permission denied", str(temporary))


def test_a_nested_output_is_named_by_its_place() -> None:
    with pytest.raises(UserError, match="^folder/inner/file: cannot be written"):
        with replacing_folder(Path("folder")) as folder, replacing(folder / "inner" / "file"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert contents() == {} and temporaries() == []


def test_a_file_in_the_way_is_named() -> None:
    Path("adapters").write_text("not a folder")
    with pytest.raises(UserError, match=r"^adapters/0/sft: .*: adapters.*remove what is in the way"):
        with replacing_folder(Path("adapters/0/sft")):
            pytest.fail("there is no place for it")


def test_an_error_in_reading_something_else_stays_what_it_is() -> None:
    with pytest.raises(PermissionError), replacing(Path("out/file")):
        raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere/input")
    with pytest.raises(FileNotFoundError), replacing(Path("out/file")):
        Path("input").read_text()
    with pytest.raises(UserError, match="^the first message$"), writing(Path("out/file")):
        raise UserError("the first message")
