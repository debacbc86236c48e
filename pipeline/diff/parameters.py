"""Which parameters changed: the roster, and every dotted key of an experiment's file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import paths
from pipeline.diff.snapshot import Snapshot
from pipeline.model_card import without_words
from pipeline.projection.provenance import flattened

ABSENT = "-"
LONGEST = 60  # characters of a value that are shown


@dataclass(frozen=True)
class Change:
    """One thing that was one and is another, as text."""

    what: str
    old: str
    new: str


def roster_changes(old: Snapshot, new: Snapshot) -> list[Change]:
    """Return what changed in params.yaml."""
    return _changes(old.yaml(paths.roster_file()), new.yaml(paths.roster_file()))


def experiment_changes(experiment: str, old: Snapshot, new: Snapshot) -> list[Change]:
    """Return what changed in the parameters of one experiment."""
    path = paths.experiment_file(experiment)
    return _changes(old.yaml(path), new.yaml(path))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    before, after = flattened(old), flattened(new)
    missing = object()
    keys = [key for key in sorted({*before, *after}) if before.get(key, missing) != after.get(key, missing)]
    return [Change(key, *_excerpts(*(_text(key, values) for values in (before, after)))) for key in keys]


def _text(key: str, values: Mapping[str, Any]) -> str:
    if key not in values:
        return ABSENT
    value = without_words(key, values[key])
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _excerpts(old: str, new: str) -> tuple[str, str]:
    """Shorten two long values to where they begin to differ."""
    if max(len(old), len(new)) <= LONGEST:
        return old, new
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    start = max(0, same - LONGEST // 3)
    return _excerpt(old, start), _excerpt(new, start)


def _excerpt(text: str, start: int) -> str:
    if text == ABSENT:
        return text
    end = start + LONGEST
    return ("…" if start else "") + text[start:end] + ("…" if len(text) > end else "")
