"""The MD5 of what is on disk by DVC's own rules, from the bytes themselves: no state is asked, nothing is written."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.apps.verify.finding import DIFFERENT, MISSING, NAMED, Finding
from pipeline.apps.verify.lock import Declared, Recorded, is_committed
from pipeline.io.errors import UserError

MD5 = "md5"
FOLDER = ".dir"  # ends the hash of a folder


@dataclass(frozen=True)
class Hashed:
    """The MD5 of a file; of a folder the one that DVC gives it, and those of its files by name."""

    md5: str
    files: Mapping[str, str] = field(default_factory=dict)


class Disk:
    """The working directory as DVC sees it: through .dvcignore."""

    def __init__(self) -> None:
        from dvc.fs import localfs
        from dvc.ignore import DvcIgnoreFilter
        from dvc_data.hashfile.db import HashFileDB
        from dvc_objects.fs.memory import MemoryFileSystem

        self._ignored = DvcIgnoreFilter(localfs, str(Path.cwd()))
        # It has no state, so that a file of the same size and time is read like any other.
        self._nowhere = HashFileDB(MemoryFileSystem(), "verify")

    def hashed(self, path: str) -> Hashed | None:
        """Hash a file or folder anew; None where there is neither. Raises UserError when some of it cannot be read."""
        from dvc.fs import localfs
        from dvc_data.hashfile.build import IgnoreInCollectedDirError, build
        from dvc_data.hashfile.tree import Tree

        place = Path(path).absolute()
        if not place.exists():
            return None
        try:
            _, _, found = build(self._nowhere, str(place), localfs, MD5, dry_run=True, ignore=self._ignored)
        except IgnoreInCollectedDirError:
            raise UserError(f"{path}: expected no .dvcignore inside; remove it") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); repair or remove it") from None
        return Hashed(str(found.hash_info.value), files_of(found) if isinstance(found, Tree) else {})


def files_of(tree: Any) -> dict[str, str]:
    """Return the MD5 of every file of DVC's listing of a folder, by its path below it."""
    return {"/".join(key): str(value.value) for key, _, value in tree}


class Cache:
    """DVC's cache of this repository, read as it lies on disk."""

    def __init__(self) -> None:
        from dvc.cachemgr import CacheManager
        from dvc.config import Config, ConfigError
        from dvc.fs import localfs
        from dvc_data.hashfile.db.local import LocalHashFileDB

        home = Path(".dvc").absolute()
        try:
            settings = Config(str(home))
        except ConfigError as error:
            raise UserError(f".dvc/config: {error}; correct it, or restore it with `git checkout`") from None
        folder = Path(settings.get("cache", {}).get("dir") or home / CacheManager.CACHE_DIR)
        self._objects = LocalHashFileDB(localfs, str(folder / CacheManager.FILES_DIR / MD5))
        self.has_remote = bool(settings.get("core", {}).get("remote"))

    def keeps(self, md5: str) -> bool:
        """Tell whether all of an output is there, with every file hashed again."""
        files = self._files(md5)
        return files is not None and all(self._is_sound(value) for value in files.values())

    def changes(self, md5: str, now: Hashed) -> list[str]:
        """Return how the files of a folder differ from what was recorded, sorted; none where the cache cannot tell."""
        before = self._files(md5) if md5.endswith(FOLDER) and now.md5.endswith(FOLDER) else None
        if before is None:
            return []
        words = {(True, True): "changed", (True, False): "gone", (False, True): "added"}
        names = sorted(name for name in {*before, *now.files} if before.get(name) != now.files.get(name))
        return [f"{words[name in before, name in now.files]} {name}" for name in names]

    def _files(self, md5: str) -> Mapping[str, str] | None:
        """Return the MD5 of the files of an output by name, None where the cache lacks their list."""
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.tree import Tree

        if not md5.endswith(FOLDER):
            return {"": md5}
        return files_of(Tree.load(self._objects, HashInfo(MD5, md5))) if self._is_sound(md5) else None

    def _is_sound(self, md5: str) -> bool:
        from dvc_data.hashfile.hash import file_md5

        place = self._objects.oid_to_path(md5)
        return Path(place).is_file() and file_md5(place) == md5.removesuffix(FOLDER)


INPUTS, OUTPUTS = "inputs", "outputs"
Paths = Callable[[Sequence[str]], Iterable[str]]


@dataclass
class Users:
    """The entries that have one content of one path as their output, and those that have it as an input."""

    makers: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


def hash_all(entries: Iterable[Recorded], watched: Paths) -> dict[str, Hashed | None]:
    """Hash every input and output of these entries once; `watched` is given the paths and yields them one by one."""
    disk = Disk()
    paths = sorted({path for entry in entries for path in (*entry.inputs, *entry.outputs)})
    return {path: disk.hashed(path) for path in watched(paths)}


def check_contents(
    entries: Sequence[Recorded], declared: Mapping[str, Declared], found: Mapping[str, Hashed | None]
) -> Iterator[Finding]:
    """Yield one finding a path and content that the lock records for it: outputs, then what is an input alone."""
    cache = Cache()
    in_git = {path for entry in declared.values() for path in entry.in_git}
    kept = {path for entry in declared.values() for path in entry.outputs - entry.in_git}
    for (path, md5), users in sorted(_users(entries).items(), key=lambda item: (not item[1].makers, *item[0])):
        group, now = (OUTPUTS if users.makers else INPUTS), found[path]
        if now is not None and now.md5 == md5:
            yield Finding(group, path)
            continue
        holds_kept = any(output.startswith(f"{path}/") for output in kept)
        yield Finding(
            group,
            path,
            state=MISSING if now is None else DIFFERENT,
            expected=f"md5 {md5}",
            found="nothing" if now is None else _told(now, cache.changes(md5, now)),
            remedy=_remedy(path, md5, users, cache, path in in_git, holds_kept, now is None),
            pullable=now is None and (path in kept or holds_kept),
        )


def _users(entries: Iterable[Recorded]) -> dict[tuple[str, str], Users]:
    users: dict[tuple[str, str], Users] = {}
    for entry in entries:
        for path, md5 in entry.outputs.items():
            users.setdefault((path, md5), Users()).makers.append(entry.name)
        for path, md5 in entry.inputs.items():
            users.setdefault((path, md5), Users()).readers.append(entry.name)
    return users


def _told(now: Hashed, changes: Sequence[str]) -> str:
    more = ", …" if len(changes) > NAMED else ""
    return f"md5 {now.md5}" + (f" ({', '.join(changes[:NAMED])}{more})" if changes else "")


def _remedy(
    path: str, md5: str, users: Users, cache: Cache, is_in_git: bool, holds_outputs: bool, is_missing: bool
) -> str:
    entries = users.makers or users.readers
    repro = f"`dvc repro {entries[0]}`" if len(entries) == 1 else f"`dvc repro` ({len(entries)} stages used it)"
    if not users.makers:
        if holds_outputs:
            return f"restore the outputs in it and remove other files, or {repro}"
        return f"`git checkout -- {path}`, or {repro}" if is_committed(path, md5) else repro
    # DVC and Git take a file of the same size and time for unchanged, and give nothing back in its place.
    first = "" if is_missing else "remove it, then "
    if is_in_git:
        return first + (f"`git checkout -- {path}`" if is_committed(path, md5) else repro)
    if cache.keeps(md5):
        return f"{first}`dvc checkout {path}`"
    return first + (f"`dvc pull {path}`, else {repro}" if cache.has_remote else repro)
