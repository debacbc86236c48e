"""What DVC and Git recorded of a stage execution: its parameters, the digests of its inputs, the commit."""

import hashlib
import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.hashing import file_digest

LOCK = Path("dvc.lock")
PIPELINE = Path("dvc.yaml")
# Results change on every run: they say nothing about the code and parameters that gave them.
RESULTS = (LOCK, Path("metrics"), Path("plots"))


@dataclass(frozen=True)
class Recorded:
    """One entry of dvc.lock; empty where DVC has not run that stage execution."""

    params: Mapping[str, Mapping[str, Any]]
    md5: Mapping[str, str]


def recorded(entry: str) -> Recorded:
    """Read one entry of dvc.lock, such as `train_sft@smollm2-rtp-0`."""
    stages = _yaml(LOCK).get("stages", {}) if LOCK.exists() else {}
    found = stages.get(entry, {})
    md5 = {item["path"]: item["md5"] for item in found.get("deps", []) if "md5" in item}
    return Recorded(found.get("params", {}), md5)


def recorded_params(stage: str, experiment: str, record: Recorded) -> dict[str, Any]:
    """Return a run's parameters under dotted keys.

    Those in dvc.lock are the ones it ran with. Without them, the sections that dvc.yaml declares for the stage are
    read from the experiment file as it is now. Raises UserError when dvc.yaml does not know the stage.
    """
    name = str(paths.experiment_file(experiment))
    if name in record.params:
        return flattened(record.params[name])
    return load(experiment, _declared_sections(stage)).flattened()


def flattened(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every leaf of a nested mapping under its dotted key; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            leaves |= flattened(item, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = item
    return leaves


def file_md5(path: Path) -> str:
    """Return the MD5 of one file as 32 hex digits: the digest under which dvc.lock names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def lock_digest() -> dict[str, str]:
    """Return the tag `dvc.lock` with the file's SHA-256, or nothing where there is no such file."""
    return {"dvc.lock": file_digest(LOCK)} if LOCK.exists() else {}


def git_tags(results: Sequence[Path] = ()) -> dict[str, str]:
    """Return the tags `git.commit` and `git.dirty`; nothing outside a Git repository.

    HEAD, and whether anything but results differs from it; or, for `results` of an earlier run that are in Git, the
    commit that recorded them and whether they differ from it.
    """
    head = _git("rev-parse", "HEAD")
    if not head:
        return {}
    recorder = _git("log", "-1", "--format=%H", "--", *map(str, results)) if results else ""
    scope = map(str, results) if recorder else (".", *(f":(exclude){path}" for path in RESULTS))
    dirty = bool(_git("status", "--porcelain", "--", *scope))
    return {"git.commit": recorder or head, "git.dirty": str(dirty).lower()}


def process_tags() -> dict[str, str]:
    """Return tags from which a later stage sees whether this process is gone."""
    where = {"host": socket.gethostname(), "host.boot": _boot(), "pid.namespace": _pid_namespace()}
    return {**where, "pid": str(os.getpid()), "pid.since": f"{time.time():.0f}"}


def is_alive(tags: Mapping[str, str]) -> bool:
    """Return whether the process that wrote these tags still runs, as far as can be seen from here.

    Containers can share the name of a host but not see each other's processes; those count as alive.
    """
    import psutil

    if tags.get("host") != socket.gethostname():
        return False
    if tags.get("host.boot", _boot()) != _boot():
        return False
    if tags.get("pid.namespace", _pid_namespace()) != _pid_namespace():
        return True

    try:
        process = psutil.Process(int(tags["pid"]))
        # A process that is younger than the tags has inherited the number.
        since = float(tags.get("pid.since", "inf"))
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.create_time() < since + 1)
    except psutil.NoSuchProcess:
        return False


def _boot() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def _pid_namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _git(*arguments: str) -> str:
    # Without optional locks `git status` cannot get in the way of DVC, which writes the same index.
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, env=environment, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _declared_sections(stage: str) -> tuple[str, ...]:
    declared = _yaml(PIPELINE).get("stages", {}) if PIPELINE.exists() else {}
    entry = declared.get(stage, {})
    for item in entry.get("do", entry).get("params", []):
        if isinstance(item, Mapping):
            for name, sections in item.items():
                if name.startswith("experiments/"):
                    return tuple(sections)
    raise UserError(f"{PIPELINE}: {stage}: no params of experiments/ are declared, and {LOCK} holds none either")


def _yaml(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected YAML, got {' '.join(str(error).split())}") from None
    return value if isinstance(value, dict) else {}
