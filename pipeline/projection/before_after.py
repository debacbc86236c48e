"""L1: completions before and after a training, side by side: what every method made of each prompt's first sample."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import paths
from pipeline.records import read_json, read_jsonl

REFERENCE = "reference"
SAMPLE = 0
COLUMNS = (
    "method",
    "seed",
    "prompt_id",
    "prompt",
    "completion_before",
    "completion_after",
    "judge",
    "toxicity_before",
    "toxicity_after",
    "change",
)
Row = dict[str, Any]


def before_after_rows(experiment: str) -> list[Row] | None:
    """Return one row a method, seed and prompt, by the primary judge.

    None where completions or scores are not on disk, and where no reference was judged.
    Methods are in the order of the roster, and within one the largest fall of toxicity comes first; where a score is
    missing there is no change, and the row comes last. Equal changes are in the order of prompt ids, then seeds.
    """
    meta = read_json(paths.metrics(experiment, "evaluation"))["meta"]
    places = [(seed, policy) for policy in meta["policies"] for seed in meta["seeds"]]
    needed = [place(experiment, *where) for where in places for place in (paths.completions, paths.scores)]
    if REFERENCE not in meta["policies"] or not all(path.exists() for path in needed):
        return None
    answers = {where: _answers(experiment, *where, meta["primary_judge"]) for where in places}
    rows = []
    for method in (policy for policy in meta["policies"] if policy != REFERENCE):
        found = [row for seed in meta["seeds"] for row in _pairs(answers, method, seed, meta["primary_judge"])]
        rows += sorted(found, key=_order)
    return rows


def before_after_table(experiment: str) -> dict[str, list[Any]] | None:
    """Return the rows as columns, None where there are none."""
    rows = before_after_rows(experiment)
    return {name: [row[name] for row in rows] for name in COLUMNS} if rows else None


def _answers(experiment: str, seed: int, policy: str, judge: str) -> dict[str, Row]:
    """Return the first sample of every prompt by its id: the prompt, the completion, and its toxicity by `judge`."""
    toxicity = {
        row["prompt_id"]: row["toxicity"]
        for row in read_jsonl(paths.scores(experiment, seed, policy))
        if row.get("judge") == judge and row["sample"] == SAMPLE
    }
    return {
        row["prompt_id"]: {
            "prompt": row["prompt"],
            "completion": row["completion"],
            "toxicity": toxicity.get(row["prompt_id"]),
        }
        for row in read_jsonl(paths.completions(experiment, seed, policy))
        if row["sample"] == SAMPLE
    }


def _pairs(answers: Mapping[tuple[int, str], Mapping[str, Row]], method: str, seed: int, judge: str) -> Iterator[Row]:
    for prompt_id, before in sorted(answers[seed, REFERENCE].items()):
        after = answers[seed, method].get(prompt_id)
        if after is None:
            continue  # the evaluation itself refuses such files
        scores = (before["toxicity"], after["toxicity"])
        values = (
            method,
            seed,
            prompt_id,
            before["prompt"],
            before["completion"],
            after["completion"],
            judge,
            *scores,
            None if None in scores else round(scores[1] - scores[0], 6),
        )
        yield dict(zip(COLUMNS, values, strict=True))


def _order(row: Row) -> tuple[float, str, int]:
    return (math.inf if row["change"] is None else row["change"], row["prompt_id"], row["seed"])
