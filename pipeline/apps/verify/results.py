"""Results against what they are computed from: the evaluation from stored scores, digests from adapters."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.apps.verify.finding import DIFFERENT, MISSING, Difference, Finding, differences, in_words
from pipeline.config.loader import Settings
from pipeline.config.roster import Roster
from pipeline.evaluation import assemble, plots
from pipeline.evaluation.evidence import gather
from pipeline.io import paths, records
from pipeline.io.errors import UserError
from pipeline.io.hashing import adapter_fingerprint

ADAPTERS, METRICS = "adapters", "metrics"
# Of the stage `evaluate`.
SECTIONS = ("identity", "fluency", "refusal", "methods", "complete", "reward", "probe", "score", "evaluate")
REFERENCE = "reference"


def check_adapters(experiment: str, roster: Roster) -> Iterator[Finding]:
    """Yield whether each adapter on disk is the one whose digest its training's metrics hold."""
    for seed in roster.seeds:
        for method in roster.policies_of(experiment):
            if method != REFERENCE or _was_trained(experiment, seed):
                yield _adapter(experiment, seed, method)


def _was_trained(experiment: str, seed: int) -> bool:
    """Tell from its metrics whether the reference was; what is broken is found by those who read them."""
    metrics = paths.metrics(experiment, REFERENCE, seed)
    try:
        return metrics.is_file() and "adapter_sha256" in records.read_json(metrics)
    except UserError:
        return False


def _adapter(experiment: str, seed: int, method: str) -> Finding:
    folder, metrics = paths.adapter(experiment, seed, method), paths.metrics(experiment, method, seed)
    stage = REFERENCE if method == REFERENCE else f"train_{method}"
    repro = f"`dvc repro {stage}@{experiment}-{seed}`"
    if not metrics.is_file():
        return Finding(ADAPTERS, str(metrics), MISSING, "adapter_sha256", "nothing", repro)
    try:
        expected = records.read_json(metrics).get("adapter_sha256")
    except UserError as error:
        return Finding(ADAPTERS, str(metrics), DIFFERENT, "adapter_sha256", str(error), repro)
    what, remedy = f"{folder} as in {metrics}", f"`dvc checkout` or `dvc pull`, else {repro}"
    if not folder.is_dir():
        return Finding(ADAPTERS, what, MISSING, f"sha256 {expected}", "nothing", remedy, pullable=True)
    try:
        found = adapter_fingerprint(folder)
    except UserError:
        found = "of no file"
    if found == expected:
        return Finding(ADAPTERS, what)
    return Finding(ADAPTERS, what, DIFFERENT, f"sha256 {expected}", f"sha256 {found}", remedy)


def check_metrics(experiment: str, roster: Roster, settings: Settings) -> Iterator[Finding]:
    """Yield whether the evaluation and each of its plots are, byte for byte, what the stored scores give."""
    absent = [path for path in _read_by_evaluate(experiment, roster) if not path.is_file()]
    what, remedy = str(paths.metrics(experiment, "evaluation")), f"`dvc repro evaluate@{experiment}`"
    if absent:
        found = f"{absent[0]} and {len(absent) - 1} more are missing" if absent[1:] else f"{absent[0]} is missing"
        remedy = f"`dvc checkout` or `dvc pull`, else {remedy}"
        yield Finding(METRICS, what, MISSING, "scores to compute it from", found, remedy, pullable=True)
        return
    try:
        computed = _computed(experiment, roster, settings)
    except UserError as error:
        yield Finding(METRICS, what, DIFFERENT, "scores to compute it from", str(error), remedy)
        return
    for path, text in computed.items():
        yield _compared(path, text, remedy)


def _read_by_evaluate(experiment: str, roster: Roster) -> list[Path]:
    seeded = [
        place(experiment, seed, policy)
        for place in (paths.completions, paths.scores, paths.probes)
        for seed in roster.seeds
        for policy in roster.policies_of(experiment)
    ]
    return [*seeded, paths.formatted(experiment, "eval"), paths.metrics(experiment, "judge")]


def _computed(experiment: str, roster: Roster, settings: Settings) -> dict[Path, str]:
    """Return what the stage `evaluate` would write: the text of every file."""
    evidence = gather(experiment, roster, settings)
    evaluation = assemble.assemble(evidence, settings)
    figures = plots.figures(evidence.judged, evaluation)
    return {
        paths.metrics(experiment, "evaluation"): records.json_text(evaluation),
        **{paths.plot(experiment, name): records.csv_text(rows) for name, rows in figures.items()},
    }


def _compared(path: Path, computed: str, remedy: str) -> Finding:
    if not path.is_file():
        return Finding(METRICS, str(path), MISSING, "what the scores give", "nothing", remedy)
    stored = path.read_bytes()
    if stored == computed.encode():
        return Finding(METRICS, str(path))
    before, now = (_nested(path, text) for text in (stored.decode("utf-8", errors="replace"), computed))
    changed = list(differences(now, before)) or [Difference("bytes", "as computed", "of another form")]
    return Finding(METRICS, str(path), DIFFERENT, *in_words(changed), remedy)


def _nested(path: Path, text: str) -> dict[str, Any]:
    """Return the values of a JSON or CSV file by where they stand; nothing of one that is broken."""
    if path.suffix == ".csv":
        return {f"line {number}": row for number, row in enumerate(csv.DictReader(io.StringIO(text)), start=2)}
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
