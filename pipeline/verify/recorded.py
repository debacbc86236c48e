"""Inputs and outputs of dvc.lock against what is on disk, every path hashed once."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.verify.cache import Cache
from pipeline.verify.finding import DIFFERENT, MISSING, NAMED, Finding
from pipeline.verify.hashing import Disk, Hashed
from pipeline.verify.head import is_committed
from pipeline.verify.lock import Declared, Recorded

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
