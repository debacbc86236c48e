"""What an evaluation says of the policies it judged: numbers for the runs that made them, and tables."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.judged import Joined, joined
from pipeline.io import paths
from pipeline.io.records import read_json
from pipeline.tracking.description import numeric_leaves, pruned
from pipeline.tracking.execution import Execution, training

POOLED = ("guards", "guard_checks", "hacking", "before_after", "rouge", "refusal")
REFUSAL = "refusal"  # the key of the rows and entries that tell of refusals
COMPLETION_COLUMNS = ("prompt_id", "sample", "prompt", "completion")


@dataclass(frozen=True)
class Landing:
    """What the evaluation says of one policy and seed, for the run of the execution that made the policy."""

    execution: Execution
    metrics: dict[str, float]
    verdict: str  # in words


def landings(experiment: str) -> Iterator[Landing]:
    """Yield what the evaluation on disk says of every policy and seed.

    All numbers stand under `evaluation/`; with several seeds they are the seed's own where the evaluation has them,
    else the pooled ones. An interval's value stands under the plain name, its ends under `…/low` and `…/high`. What
    runs are sorted by stands under the same plain names in every run: see `_headline`.
    """
    evaluation = read_json(paths.metrics(experiment, "evaluation"))
    meta = evaluation["meta"]
    shared = {f"evaluation/{name}": float(meta[name]) for name in ("prompts", "samples_per_prompt")}
    for policy, pooled in _policies(evaluation).items():
        for seed in meta["seeds"]:
            own = {**pooled, **pooled.get("seeds", {}).get(str(seed), {})} if len(meta["seeds"]) > 1 else pooled
            shown = {**own["judges"], **{name: own[name] for name in POOLED if name in own}}
            leaves = numeric_leaves(pruned(shown), "evaluation/")
            named = {name.removesuffix("/value"): value for name, value in leaves.items()}
            headline = _headline(own, meta["primary_judge"])
            yield Landing(training(experiment, seed, policy), shared | named | headline, _verdict(pooled, meta))


def outcome(experiment: str) -> str:
    """Return the champion that the evaluation on disk names, or why there is none, in words; "" where it says none."""
    found = read_json(paths.metrics(experiment, "evaluation")).get("champion")
    if not found:
        return ""
    if found["policy"] is None:
        return f"**No champion**: {found['reason']}."
    return f"**Champion: {found['policy']}**, seed {found['seed']}: {found['reason']}."


def _headline(own: Mapping[str, Any], primary: str) -> dict[str, float]:
    """Return toxicity and its change from the reference by the primary judge, and 1 where every guard holds, else 0."""
    judged = own["judges"][primary]
    found = {
        "toxicity_mean": _value(judged["toxicity_mean"]),
        "toxicity_difference": _value(judged.get("difference", {}).get("toxicity_mean")),
        "guards_passed": float(own["guards_passed"]) if "guards_passed" in own else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _value(estimate: Any) -> float | None:
    """Return the value of an interval; a seed's own numbers are plain."""
    value = estimate.get("value") if isinstance(estimate, Mapping) else estimate
    return None if value is None else float(value)


def _verdict(pooled: Mapping[str, Any], meta: Mapping[str, Any]) -> str:
    judged = pooled["judges"][meta["primary_judge"]]
    sentence = f"Toxicity by {meta['primary_judge']}: {_interval(judged['toxicity_mean'])}"
    if difference := judged.get("difference", {}).get("toxicity_mean"):
        sentence += f"; from the reference: {_interval(difference, '+')}"
    if len(meta["seeds"]) > 1:
        sentence += f"; over seeds {', '.join(map(str, meta['seeds']))}"
    found = pooled.get("verdict")
    return (f"**Verdict: {found['outcome']}** ({found['reason']}). " if found else "") + f"{sentence}."


def _interval(found: Mapping[str, float | None], sign: str = "") -> str:
    value, low, high = (
        "missing" if found[end] is None else f"{found[end]:{sign}.3f}" for end in ("value", "low", "high")
    )
    return f"{value} [{low}, {high}]"


def completions_table(experiment: str) -> dict[str, list[Any]] | None:
    """Return every judged completion as columns, one row a completion; None where a file of them is not on disk.

    `refusal`, 1 where a completion declines and 0 where not, is a column where refusals are judged.
    """
    evaluation = read_json(paths.metrics(experiment, "evaluation"))
    policies = {name: entry["judges"] for name, entry in _policies(evaluation).items()}
    found = joined(experiment, evaluation["meta"]["seeds"], policies)
    if found is None:
        return None
    rows = [_table_row(seed, policy, row) for (seed, policy), answers in found.items() for row in answers]
    judges = dict.fromkeys(judge for entry in policies.values() for judge in entry)
    refusal = [REFUSAL] if "refusal_sha256" in evaluation["meta"] else []
    columns = ["policy", "seed", *COMPLETION_COLUMNS, *(f"toxicity/{name}" for name in judges), *refusal]
    return {column: [row.get(column) for row in rows] for column in columns}


def _table_row(seed: int, policy: str, row: Joined) -> dict[str, Any]:
    shown = {key: row.completion[key] for key in COMPLETION_COLUMNS}
    scores = {f"toxicity/{judge}": toxicity for judge, toxicity in row.toxicity.items()}
    return {"policy": policy, "seed": seed} | shown | scores | {REFUSAL: row.refusal}


def _policies(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of the policies; the judges of `meta` are their hashes."""
    return {
        name: entry
        for name, entry in evaluation.items()
        if name != "meta" and isinstance(entry, Mapping) and "judges" in entry
    }


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
    found = joined(experiment, meta["seeds"], meta["policies"]) if REFERENCE in meta["policies"] else None
    if found is None:
        return None
    answers = {where: _answers(rows, meta["primary_judge"]) for where, rows in found.items()}
    rows = []
    for method in (policy for policy in meta["policies"] if policy != REFERENCE):
        pairs = [row for seed in meta["seeds"] for row in _pairs(answers, method, seed, meta["primary_judge"])]
        rows += sorted(pairs, key=_order)
    return rows


def before_after_table(experiment: str) -> dict[str, list[Any]] | None:
    """Return the rows as columns, None where there are none."""
    rows = before_after_rows(experiment)
    return {name: [row[name] for row in rows] for name in COLUMNS} if rows else None


def _answers(rows: Iterable[Joined], judge: str) -> dict[str, Row]:
    """Return the first sample of every prompt by its id: the prompt, the completion, and its toxicity by `judge`."""
    return {
        row["prompt_id"]: {"prompt": row["prompt"], "completion": row["completion"], "toxicity": toxicity.get(judge)}
        for row, toxicity, _ in rows
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
