"""What dvc.lock records and what dvc.yaml declares, entry by entry; read without opening (and so without changing)
DVC's state."""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from pipeline.apps.verify.finding import DIFFERENT, Finding
from pipeline.config import plain_yaml
from pipeline.io.errors import UserError

LOCK, DAG = Path("dvc.lock"), Path("dvc.yaml")


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as DVC writes it; ten times as fast where PyYAML was built with libyaml."""


plain_yaml.read_floats(Loader)


@dataclass(frozen=True)
class Recorded:
    """One entry of dvc.lock: its command, path -> MD5 of its inputs and outputs, file -> key -> value of parameters."""

    name: str
    command: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Declared:
    """One entry of dvc.yaml's matrices at the roster; `in_git` are the outputs that DVC's cache does not keep."""

    name: str
    experiment: str
    command: str
    inputs: frozenset[str]
    outputs: frozenset[str]
    in_git: frozenset[str]
    parameters: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_lock() -> dict[str, Recorded]:
    """Return the entries of dvc.lock by name; raise UserError when there is no such file or it is broken."""
    import voluptuous
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA

    remedy = f"restore it with `git checkout -- {LOCK}`, or make it with `dvc repro`"
    raw = _read(LOCK, remedy)
    try:
        COMPILED_LOCKFILE_SCHEMA(raw)
        return {name: _recorded(name, entry) for name, entry in (raw.get("stages") or {}).items()}
    except (voluptuous.Invalid, KeyError) as error:
        raise UserError(f"{LOCK}: expected entries as DVC writes them, got {error}; {remedy}") from None


def read_dag() -> dict[str, Declared]:
    """Return every entry that dvc.yaml makes of the roster, by name; raise UserError when dvc.yaml is broken."""
    from dvc.exceptions import DvcException
    from dvc.fs import localfs
    from dvc.parsing import DataResolver

    remedy = f"correct it, or restore it with `git checkout -- {DAG}`"
    raw = _read(DAG, remedy)
    try:
        # All that the resolver asks of a repository; opening one makes folders and a database.
        resolver = DataResolver(SimpleNamespace(fs=localfs, config={}), os.curdir, raw)
        return {
            f"{stage}@{key}": _declared(f"{stage}@{key}", axes["experiment"], definition.resolve_one(key))
            for stage, definition in resolver.definitions.items()
            for key, axes in definition.normalized_iterable.items()
        }
    except (DvcException, AttributeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{DAG}: expected stages with a matrix over experiments, got {reason}; {remedy}") from None


def no_yaml(error: Exception) -> str:
    """Return on one line why something is no YAML; PyYAML names its place for every part, as in a Unicode string."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
    told = ", ".join(part for part in (error.context, error.problem) if part)
    mark = error.problem_mark or error.context_mark
    return " ".join((f"{told} (line {mark.line + 1}, column {mark.column + 1})" if mark else told).split())


def _read(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {remedy}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected YAML, got {no_yaml(error)}; {remedy}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping, got {type(value).__name__}; {remedy}")
    return value


def _recorded(name: str, entry: Mapping[str, Any]) -> Recorded:
    return Recorded(
        name=name,
        command=str(entry["cmd"]),
        inputs={item["path"]: item["md5"] for item in entry.get("deps", [])},
        outputs={item["path"]: item["md5"] for item in entry.get("outs", [])},
        parameters=entry.get("params", {}),
    )


def _declared(name: str, experiment: object, resolved: Mapping[str, Any]) -> Declared:
    ((_, stage),) = resolved.items()
    outputs = [item for kind in ("outs", "metrics", "plots") for item in stage.get(kind, [])]
    flags = {path: options for item in outputs for path, options in _with_options(item)}
    params = [({item: []} if isinstance(item, str) else item) for item in stage.get("params", [])]
    return Declared(
        name=name,
        experiment=str(experiment),
        command=str(stage["cmd"]),
        inputs=frozenset(stage.get("deps", [])),
        outputs=frozenset(flags),
        in_git=frozenset(path for path, options in flags.items() if options.get("cache") is False),
        parameters={path: frozenset(keys) for item in params for path, keys in item.items()},
    )


def _with_options(item: str | Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return [(item, {})] if isinstance(item, str) else list(item.items())


GROUP = "lock"
CODE = ("pipeline", "stages")
_REMEDY = "repair the repository, or the environment that Git runs in"


def committed(path: str) -> bytes | None:
    """Return a file as HEAD holds it; None where it holds none, or where there is no Git repository."""
    done = _git("show", f"HEAD:./{path}")
    return done.stdout if done is not None and done.returncode == 0 else None


def is_committed(path: str, md5: str) -> bool:
    """Tell whether HEAD holds a file of this MD5 at `path`."""
    content = committed(path)
    return content is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() == md5


def why_not_compared() -> str | None:
    """Return why nothing here can be compared with HEAD, None where it can; raise UserError where Git cannot tell."""
    done = _git("rev-parse", "--is-inside-work-tree")
    if done is None:
        return "not compared with HEAD: Git is not installed"
    if done.returncode == 0:
        return None
    message = done.stderr.decode("utf-8", errors="replace")
    if "not a git repository" in message:
        return "not in a Git repository, so that it may be any"
    reason = (message.strip().splitlines() or [f"exit status {done.returncode}"])[0]
    raise UserError(f"{LOCK}: cannot be compared with HEAD: git: {reason[:200]}; {_REMEDY}")


def check_lock() -> Iterator[Finding]:
    """Yield whether dvc.lock is, byte for byte, the committed one: any other could have been made to agree."""
    before = committed(str(LOCK))
    if before == LOCK.read_bytes():
        yield Finding(GROUP, str(LOCK))
        return
    found = "none in HEAD" if before is None else f"another; `git diff HEAD -- {LOCK}` shows how"
    restore = "" if before is None else f", or `git checkout -- {LOCK}`"
    yield Finding(GROUP, str(LOCK), DIFFERENT, "the committed one", found, f"commit it{restore}")


def notes_on_code() -> Iterator[str]:
    """Yield a note on code that differs from HEAD, whether a stage depends on it or not."""
    folders = " ".join(CODE)
    options = ("--no-optional-locks", "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    done = _git(*options, "--", *CODE)
    if done is None or done.returncode:
        yield f"{folders}: not compared with HEAD"
        return
    changed = sorted(line[3:] for line in done.stdout.decode("utf-8", errors="replace").split("\0") if line)
    if changed:
        yield (
            f"code is not as in HEAD in {len(changed)} files, such as {changed[0]}; `git status {folders}` lists them"
        )


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes] | None":
    """Run Git with messages in English; None where it is not installed."""
    environment = os.environ | {"LC_ALL": "C"}
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        return None
