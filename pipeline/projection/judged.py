"""L1: what an evaluation says of the policies it judged: numbers for the runs that made them, and a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import paths
from pipeline.projection.description import numeric_leaves, pruned
from pipeline.projection.execution import Execution, training
from pipeline.records import read_json, read_jsonl

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
    places = [(seed, policy) for policy in policies for seed in evaluation["meta"]["seeds"]]
    needed = [place(experiment, *where) for where in places for place in (paths.completions, paths.scores)]
    if not all(path.exists() for path in needed):
        return None
    rows = [row for where in places for row in _table_rows(experiment, *where)]
    judges = dict.fromkeys(judge for entry in policies.values() for judge in entry)
    refusal = [REFUSAL] if "refusal_sha256" in evaluation["meta"] else []
    columns = ["policy", "seed", *COMPLETION_COLUMNS, *(f"toxicity/{name}" for name in judges), *refusal]
    return {column: [row.get(column) for row in rows] for column in columns}


def _table_rows(experiment: str, seed: int, policy: str) -> Iterator[dict[str, Any]]:
    rows = read_jsonl(paths.scores(experiment, seed, policy))
    toxicity = {
        (row["prompt_id"], row["sample"], row["judge"]): row["toxicity"]
        for row in rows
        if "judge" in row  # not those of the fluency model and of the judge of refusals
    }
    refused = {(row["prompt_id"], row["sample"]): row[REFUSAL] for row in rows if REFUSAL in row}
    judges = dict.fromkeys(judge for _, _, judge in toxicity)
    for row in read_jsonl(paths.completions(experiment, seed, policy)):
        shown = {key: row[key] for key in COMPLETION_COLUMNS}
        scores = {f"toxicity/{judge}": toxicity.get((row["prompt_id"], row["sample"], judge)) for judge in judges}
        refusal = {REFUSAL: refused.get((row["prompt_id"], row["sample"]))}
        yield {"policy": policy, "seed": seed} | shown | scores | refusal


def _policies(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of the policies; the judges of `meta` are their hashes."""
    return {
        name: entry
        for name, entry in evaluation.items()
        if name != "meta" and isinstance(entry, Mapping) and "judges" in entry
    }
