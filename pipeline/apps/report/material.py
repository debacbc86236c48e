"""What the report is made of: everything of one experiment that is on disk, and nothing else."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.apps.report import before_after, provenance, texts
from pipeline.apps.report.provenance import Provenance
from pipeline.apps.report.texts import Texts
from pipeline.apps.table import read as read_evaluation
from pipeline.evaluation import judge_cards
from pipeline.io import paths, records
from pipeline.io.atomic import staged
from pipeline.io.errors import UserError
from pipeline.io.records import finite

REFERENCE = "reference"
SHOWN = {"train": ("updates", "examples"), "dev": ("toxicity_mean", "perplexity_median", "kl")}  # of a training
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
    """All parts; empty or None where a part is not on disk. `texts` is the reason, in words, where there are none.

    `pairs` are completions before and after every training, as `before_after` orders them.
    """

    experiment: str
    evaluation: Mapping[str, Any]
    cards: Mapping[str, Mapping[str, Any]]
    refusal_card: Mapping[str, Any] | None
    trainings: list[Training]
    histogram: list[Row]
    texts: Texts | str
    pairs: list[Row]
    provenance: Provenance


def read(experiment: str) -> Material:
    """Read every part; raise UserError when there is no evaluation, or a file that is there is broken."""
    evaluation = read_evaluation(experiment)
    found = _cards(experiment, evaluation)
    completions = _texts(experiment, evaluation, found)
    return Material(
        experiment=experiment,
        evaluation=evaluation,
        cards=found,
        refusal_card=_refusal_card(experiment),
        trainings=_trainings(experiment, evaluation["meta"]),
        histogram=_rows(paths.plot(experiment, "scores"), numbers=("bin", "share"), words=("policy", "judge")),
        texts=completions,
        pairs=before_after.pairs(experiment) if isinstance(completions, Texts) else [],
        provenance=provenance.read(experiment, evaluation),
    )


def _cards(experiment: str, evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the cards of the evaluation's judges, the primary one first."""
    path = paths.metrics(experiment, "judge")
    found = judge_cards.read(path) if path.exists() else {}
    primary = evaluation["meta"]["primary_judge"]
    order = [primary, *(name for name in evaluation["meta"]["judges"] if name != primary)]
    return {name: found[name] for name in order if name in found}


def _refusal_card(experiment: str) -> dict[str, Any] | None:
    """Return the card of the judge of refusals."""
    path = paths.metrics(experiment, "judge")
    return judge_cards.read_refusal(path) if path.exists() else None


def _trainings(experiment: str, meta: Mapping[str, Any]) -> list[Training]:
    """Return the trainings of which at least the curve or the metrics are on disk."""
    found = []
    for method in (name for name in meta["policies"] if name != REFERENCE):
        for seed in meta["seeds"]:
            path = paths.metrics(experiment, method, seed)
            metrics = _measured(path) if path.exists() else {}
            curve = _rows(paths.curves(experiment, seed, method), numbers=("step",))
            if curve or metrics:
                found.append(Training(method, seed, curve, metrics))
    return found


def _measured(path: Path) -> dict[str, Any]:
    """Return what a training measured; raise UserError where the numbers that the page shows are none."""
    found = records.read_json(path)
    for section, names in SHOWN.items():
        values = found.get(section, {})
        if not isinstance(values, dict):
            raise UserError(f"{path}: {section}: expected a mapping, got {type(values).__name__}; {records.REMAKE}")
        for name in names:
            value = values.get(name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                kind = type(value).__name__
                raise UserError(f"{path}: {section}.{name}: expected a number, got {kind}; {records.REMAKE}")
    return found


def _texts(experiment: str, evaluation: Mapping[str, Any], judges: Mapping[str, Mapping[str, Any]]) -> Texts | str:
    """Return completions and scores, or why there are none: a fresh clone has them only after `dvc pull`."""
    try:
        return texts.read(experiment, evaluation, judges)
    except UserError as error:
        return str(error)


def _rows(path: Path, numbers: Collection[str], words: Collection[str] = ()) -> list[Row]:
    """Return the rows of a CSV file, None in empty fields; [] without a file.

    Raises UserError where a field outside the columns of `words` is not a number, and where a column is missing.
    """
    if not staged(path).exists():
        return []
    with records.opened(path, newline="") as file:
        found = records.parsed_csv(file, str(path), (*numbers, *words))
    return [
        {name: text if name in words else finite(text, f"{path}:{number}: {name}") for name, text in row.items()}
        for number, row in enumerate(found, start=2)  # the header is line 1
    ]
