"""dvc.yaml and the parameter files against dvc.lock: what would run again, and why."""

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.shown import shortened
from pipeline.errors import UserError
from pipeline.verify.finding import DIFFERENT, MISSING, Finding, differences, in_words
from pipeline.verify.lock import DAG, LOCK, Declared, Recorded, no_yaml

STAGES, PARAMETERS = "stages", "parameters"


def check_stages(declared: Mapping[str, Declared], recorded: Mapping[str, Recorded]) -> Iterator[Finding]:
    """Yield whether each entry of dvc.yaml was recorded, with the command, inputs, outputs and keys it has now."""
    for name, entry in declared.items():
        remedy = f"`dvc repro {name}`"
        if name not in recorded:
            yield Finding(STAGES, name, MISSING, f"an entry in {LOCK}", "none", remedy)
            continue
        told = list(_changes(entry, recorded[name]))
        if told:
            expected, found = ("; ".join(side) for side in zip(*told, strict=True))
            yield Finding(STAGES, name, DIFFERENT, expected, found, remedy)
        else:
            yield Finding(STAGES, name)


def _changes(entry: Declared, lock: Recorded) -> Iterator[tuple[str, str]]:
    if entry.command != lock.command:
        yield f"cmd {shortened(lock.command)}", f"cmd {shortened(entry.command)}"
    keys = {f"{path}:{key}" for path, listed in entry.parameters.items() for key in listed}
    locked = {f"{path}:{key}" for path, listed in lock.parameters.items() for key in listed}
    pairs: Sequence[tuple[str, Set[str], Set[str]]] = (
        ("deps", entry.inputs, lock.inputs.keys()),
        ("outs", entry.outputs, lock.outputs.keys()),
        ("params", keys, locked),
    )
    for kind, now, before in pairs:
        if before - now:
            gone = ", ".join(sorted(before - now))
            yield f"{kind} with {gone}", f"none of it in {DAG}"
        if now - before:
            added = ", ".join(sorted(now - before))
            yield f"{kind} without {added}", f"it in {DAG}"


def check_parameters(entries: Sequence[Recorded]) -> Iterator[Finding]:
    """Yield whether each value that the lock records is the one in its file, by file and top-level key."""
    files: dict[str, Mapping[str, Any] | None] = {}
    users: dict[tuple[str, str, str], tuple[Any, list[str]]] = {}
    for entry in entries:
        for path, values in entry.parameters.items():
            for key, value in values.items():
                users.setdefault((path, key, repr(value)), (value, []))[1].append(entry.name)
    for (path, key, _), (value, names) in sorted(users.items(), key=lambda item: item[0]):
        if path not in files:
            files[path] = _read(Path(path))
        yield _parameter(path, key, value, files[path], names)


def _parameter(path: str, key: str, value: Any, file: Mapping[str, Any] | None, names: Sequence[str]) -> Finding:
    what = f"{path}: {key}"
    repro = f"`dvc repro {names[0]}`" if len(names) == 1 else f"`dvc repro` ({len(names)} stages read it)"
    if file is None:
        return Finding(PARAMETERS, what, MISSING, "a parameter file", "none", f"`git checkout -- {path}`")
    changes = list(differences({key: value}, {key: file[key]} if key in file else {}))
    if not changes:
        return Finding(PARAMETERS, what)
    return Finding(PARAMETERS, what, DIFFERENT, *in_words(changes), f"restore the value, or {repro}")


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected YAML, got {no_yaml(error)}; correct the file") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping, got {type(value).__name__}; correct the file")
    return value
