"""Which parameters changed: the roster, and every dotted key of an experiment's file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.apps.diff import noise, protocol
from pipeline.apps.diff.noise import Line, Pairing
from pipeline.apps.diff.protocol import Evaluation
from pipeline.apps.diff.snapshot import Snapshot
from pipeline.evaluation import shape
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.methods import METHODS
from pipeline.tracking.model_card import without_words
from pipeline.tracking.provenance import flattened

ABSENT = "-"
LISTS = ("experiments", "seeds")
LONGEST = 60  # characters of a value that are shown


@dataclass(frozen=True)
class Change:
    """One thing that was one and is another, as text."""

    what: str
    old: str
    new: str


def roster_changes(old: Snapshot, new: Snapshot) -> list[Change]:
    """Return what changed in the lists of params.yaml; what is spelled out below them follows from these."""
    sides = [{key: side.yaml(paths.roster_file()).get(key) for key in LISTS} for side in (old, new)]
    return _changes(*sides)


def experiment_changes(experiment: str, old: Snapshot, new: Snapshot) -> list[Change]:
    """Return what changed in the parameters of one experiment."""
    path = paths.experiment_file(experiment)
    return _changes(*(_with_methods(side.yaml(path)) for side in (old, new)))


def _with_methods(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters with the methods' sections under `methods`: before that key they were beside all others."""
    beside = {name: section for name, section in parameters.items() if name in METHODS}
    others = {name: section for name, section in parameters.items() if name not in beside}
    return others | {"methods": beside | others.get("methods", {})}


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


COMPARED, ADDED, REMOVED = "compared", "added", "removed"


@dataclass(frozen=True)
class ExperimentDiff:
    """What changed in one experiment.

    `obstacles` forbid to compare any number, `limits` some; `lines` are the numbers that changed, `unchanged` counts
    the others.
    """

    name: str
    status: str = COMPARED
    parameters: list[Change] = field(default_factory=list)
    decisions: list[Change] = field(default_factory=list)
    obstacles: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    unchanged: int = 0
    seeds: int = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing changed."""
        return self.status == COMPARED and not any(
            (self.parameters, self.decisions, self.obstacles, self.limits, self.lines)
        )


def compare(old: Snapshot, new: Snapshot, experiment: str | None = None) -> tuple[list[Change], list[ExperimentDiff]]:
    """Return what changed in the roster, and in every experiment of either roster, or in `experiment` alone.

    Raises UserError for an experiment that neither roster names, and for broken files.
    """
    before, after = old.experiments(), new.experiments()
    names = list(dict.fromkeys([*after, *before]))
    if experiment is not None and experiment not in names:
        raise UserError(f"--experiment: expected one of {', '.join(names) or 'none'}, got {experiment!r}")
    chosen = [name for name in names if experiment in (None, name)]
    found = []
    for name in chosen:
        status = COMPARED if name in before and name in after else ADDED if name in after else REMOVED
        found.append(_compared(name, old, new) if status == COMPARED else ExperimentDiff(name, status))
    return roster_changes(old, new), found


def _compared(name: str, old: Snapshot, new: Snapshot) -> ExperimentDiff:
    parameters = experiment_changes(name, old, new)
    path = paths.metrics(name, "evaluation")
    before, after = old.json(path), new.json(path)
    absent = [side.name for side, found in ((old, before), (new, after)) if not found]
    if absent:
        reason = [f"not evaluated in {' and '.join(absent)}"] if len(absent) < 2 or parameters else []
        return ExperimentDiff(name, parameters=parameters, obstacles=reason)
    if before.get("schema_version") != after.get("schema_version"):
        return ExperimentDiff(name, parameters=parameters, obstacles=["schema_version of evaluation.json is another"])
    for side, found in ((old, before), (new, after)):
        shape.check(found, side.place(path))
    prompts = paths.plot(name, "prompts")
    earlier, later = (noise.by_prompt(side.csv(prompts, noise.COLUMNS), side.place(prompts)) for side in (old, new))
    for side, grids, found in ((old, earlier, before), (new, later, after)):
        noise.check_same(side.name, prompts, grids, found)
    obstacles = protocol.obstacles(before, after, (noise.prompt_ids(earlier), noise.prompt_ids(later)))
    changed = protocol.changed_measures([parameter.what for parameter in parameters])
    pairing = Pairing(earlier, later, after["meta"])
    lines = [] if obstacles else list(noise.lines(before, after, pairing, changed))
    return ExperimentDiff(
        name,
        parameters=parameters,
        decisions=list(_decisions(before, after)),
        obstacles=obstacles,
        limits=protocol.limits(before, after, changed),
        lines=[line for line in lines if line.changed],
        unchanged=sum(not line.changed for line in lines),
        seeds=min(len(side["meta"]["seeds"]) for side in (before, after)),
    )


def _decisions(old: Evaluation, new: Evaluation) -> Iterator[Change]:
    """Yield what each side says of its own numbers: champion, verdicts, guards; and what only one side judged."""
    sides = (old, new)
    found = [("champion", *(_champion(side) for side in sides))]
    found.append(("policies", *(", ".join(side["meta"]["policies"]) for side in sides)))
    found.append(("judges", *(", ".join(side["meta"]["judges"]) for side in sides)))
    for policy in dict.fromkeys([*old["meta"]["policies"], *new["meta"]["policies"]]):
        entries = [side.get(policy, {}) for side in sides]
        found.append((f"{policy}: verdict", *(_outcome(entry) for entry in entries)))
        found.append((f"{policy}: guards", *(_guards(entry) for entry in entries)))
    yield from (Change(*change) for change in found if change[1] != change[2])


def _champion(evaluation: Evaluation) -> str:
    found = evaluation.get("champion")
    if found is None:
        return ABSENT
    return "none" if found["policy"] is None else f"{found['policy']}, seed {found['seed']}"


def _outcome(entry: Mapping[str, Any]) -> str:
    found = entry.get("verdict")
    return ABSENT if found is None else str(found["outcome"])


def _guards(entry: Mapping[str, Any]) -> str:
    if "guards_failed" not in entry:
        return ABSENT
    return f"failed: {entry['guards_failed']}" if entry["guards_failed"] else "passed"
