"""All checks in order, and the notes printed after them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.apps.verify import manifests, results
from pipeline.apps.verify.finding import DIFFERENT, MISSING, OK, Finding, differences, in_words
from pipeline.apps.verify.installed import check_environment, check_pickles
from pipeline.apps.verify.lock import (
    DAG,
    LOCK,
    Declared,
    Loader,
    Recorded,
    check_lock,
    no_yaml,
    notes_on_code,
    read_dag,
    read_lock,
    why_not_compared,
)
from pipeline.apps.verify.recorded import Hashed, Paths, check_contents, hash_all
from pipeline.config.loader import load
from pipeline.config.roster import Roster, load_roster
from pipeline.io import paths
from pipeline.io.errors import UserError, shortened

Saying = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Verified:
    """Every finding, and notes that are no fault."""

    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    def faults(self, allow_missing: bool = False) -> list[Finding]:
        """Return what is not as recorded; `allow_missing` lets DVC's outputs be absent, as before `dvc pull`."""
        return [one for one in self.findings if one.state != OK and not (allow_missing and one.pullable)]


def check(experiments: Sequence[str], watched: Paths, saying: Saying) -> Verified:
    """Check these experiments of the roster, or all of it where none is named.

    `watched` is given the paths that are hashed and yields them; `saying` is entered with what takes long. Raises
    UserError for an unknown experiment and for files that cannot be read as what they are.
    """
    roster = load_roster()
    unknown = sorted(set(experiments) - set(roster.experiments))
    if unknown:
        raise UserError(
            f"{', '.join(unknown)}: expected experiments of {paths.roster_file()} ({', '.join(roster.experiments)}); "
            "correct the name, or add it to the roster"
        )
    chosen = [name for name in roster.experiments if not experiments or name in experiments]
    lock, dag = read_lock(), read_dag()
    declared = {name: entry for name, entry in dag.items() if entry.experiment in chosen}
    named = [lock[name] for name in declared if name in lock]
    others = [] if experiments else [entry for name, entry in lock.items() if name not in dag]
    found = hash_all([*named, *others], watched)
    reason = why_not_compared()
    findings = [
        *(() if reason else check_lock()),
        *check_stages(declared, lock),
        *check_parameters(named),
        *check_contents(named, declared, found),
        *check_environment(),
        *(one for experiment in chosen for one in _of_experiment(experiment, roster, saying)),
    ]
    notes = [f"{LOCK}: {reason}"] if reason else notes_on_code()
    return Verified(findings, [*notes, *_of_others(others, dag, found)])


def _of_experiment(experiment: str, roster: Roster, saying: Saying) -> Iterator[Finding]:
    with saying(f"{experiment}: hashing what was downloaded"):
        yield from list(manifests.check_sources(experiment, load(experiment, manifests.SECTIONS)))
        yield from list(check_pickles(experiment, load(experiment, manifests.SECTIONS)))
    with saying(f"{experiment}: hashing adapters"):
        yield from list(results.check_adapters(experiment, roster))
    with saying(f"{experiment}: computing the evaluation from the stored scores"):
        yield from list(results.check_metrics(experiment, roster, load(experiment, results.SECTIONS)))


def _of_others(
    others: Sequence[Recorded], dag: Mapping[str, Declared], found: Mapping[str, Hashed | None]
) -> Iterable[str]:
    if others:
        states = [one.state for one in check_contents(others, dag, found)]
        counts = ", ".join(f"{states.count(state)} {state}" for state in (OK, MISSING, DIFFERENT))
        yield (
            f"{LOCK} holds {len(others)} entries that {paths.roster_file()} does not name, such as {others[0].name}: "
            f"of their inputs and outputs {counts}; they come back when they are named again"
        )


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
    """Yield whether each value that the lock records is the one in its file, by file and dotted key."""
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
    changes = list(differences({key: value}, _section(file, key)))
    if not changes:
        return Finding(PARAMETERS, what)
    return Finding(PARAMETERS, what, DIFFERENT, *in_words(changes), f"restore the value, or {repro}")


def _section(file: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the value of a dotted key in a file, by that key; nothing where there is no such key."""
    found: Any = file
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return {}
        found = found[part]
    return {key: found}


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=Loader)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: expected YAML, got {no_yaml(error)}; correct the file") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a mapping, got {type(value).__name__}; correct the file")
    return value
