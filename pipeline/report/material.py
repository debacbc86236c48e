"""What the report is made of: everything of one experiment that is on disk, and nothing else."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import paths, records
from pipeline.errors import UserError
from pipeline.evaluation.table import read as read_evaluation
from pipeline.report import provenance, texts
from pipeline.report.provenance import Provenance
from pipeline.report.texts import Texts

REFERENCE = "reference"
Row = dict[str, Any]


@dataclass(frozen=True)
class Training:
    """One training: its curve, a row a step with missing values as None, and what it measured at its end."""

    method: str
    seed: int
    curve: list[Row]
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Material:
    """All parts; empty where a part is not on disk. `texts` is the reason, in words, where there are none."""

    experiment: str
    evaluation: Mapping[str, Any]
    cards: Mapping[str, Mapping[str, Any]]
    trainings: list[Training]
    histogram: list[Row]
    texts: Texts | str
    provenance: Provenance


def read(experiment: str) -> Material:
    """Read every part; raise UserError when there is no evaluation, or a file that is there is broken."""
    evaluation = read_evaluation(experiment)
    cards = _cards(experiment, evaluation)
    return Material(
        experiment=experiment,
        evaluation=evaluation,
        cards=cards,
        trainings=_trainings(experiment, evaluation["meta"]),
        histogram=_numbers(paths.plot(experiment, "scores")),
        texts=_texts(experiment, evaluation, cards),
        provenance=provenance.read(experiment, evaluation),
    )


def _cards(experiment: str, evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the cards of the evaluation's judges, the primary one first."""
    path = paths.metrics(experiment, "judge")
    found = records.read_json(path).get("cards", {}) if path.exists() else {}
    primary = evaluation["meta"]["primary_judge"]
    order = [primary, *(name for name in evaluation["meta"]["judges"] if name != primary)]
    return {name: found[name] for name in order if name in found}


def _trainings(experiment: str, meta: Mapping[str, Any]) -> list[Training]:
    """Return the trainings of which at least the curve or the metrics are on disk."""
    found = []
    for method in (name for name in meta["policies"] if name != REFERENCE):
        for seed in meta["seeds"]:
            path = paths.metrics(experiment, method, seed)
            metrics = records.read_json(path) if path.exists() else {}
            curve = _numbers(paths.curves(experiment, seed, method))
            if curve or metrics:
                found.append(Training(method, seed, curve, metrics))
    return found


def _texts(experiment: str, evaluation: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> Texts | str:
    """Return completions and scores, or why there are none: a fresh clone has them only after `dvc pull`."""
    try:
        return texts.read(experiment, evaluation, cards)
    except UserError as error:
        return str(error)


def _numbers(path: Path) -> list[Row]:
    """Return the rows of a CSV with numbers where there are numbers, and None in empty fields; [] without a file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str | None) -> Any:
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        return text
