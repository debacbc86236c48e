"""L1: what an evaluation says of the policies it judged: numbers for the runs that made them, and a table."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline import paths
from pipeline.projection.description import numeric_leaves
from pipeline.projection.execution import Execution, training
from pipeline.records import read_json, read_jsonl

COMPLETION_COLUMNS = ("prompt_id", "sample", "prompt", "completion")


@dataclass(frozen=True)
class Landing:
    """The evaluation's numbers of one policy and seed, for the run of the execution that made the policy."""

    execution: Execution
    metrics: dict[str, float]


def landings(experiment: str) -> Iterator[Landing]:
    """Yield what the evaluation on disk says of every policy and seed, under `evaluation/`.

    With several seeds these are the seed's own numbers where the evaluation has them, else the pooled ones. An
    interval's value stands under the plain name, its ends under `…/low` and `…/high`.
    """
    evaluation = read_json(paths.metrics(experiment, "evaluation"))
    meta = evaluation["meta"]
    shared = {f"evaluation/{name}": float(meta[name]) for name in ("prompts", "samples_per_prompt")}
    for policy, pooled in _policies(evaluation).items():
        for seed in meta["seeds"]:
            own = pooled.get("seeds", {}).get(str(seed), pooled) if len(meta["seeds"]) > 1 else pooled
            leaves = numeric_leaves({**own.get("judges", {}), "guards": own.get("guards", {})}, "evaluation/")
            named = {name.removesuffix("/value"): value for name, value in leaves.items()}
            yield Landing(training(experiment, seed, policy), shared | named)


def completions_table(experiment: str) -> dict[str, list[Any]] | None:
    """Return every judged completion as columns, one row a completion; None where a file of them is not on disk."""
    evaluation = read_json(paths.metrics(experiment, "evaluation"))
    policies = {name: entry["judges"] for name, entry in _policies(evaluation).items()}
    places = [(seed, policy) for policy in policies for seed in evaluation["meta"]["seeds"]]
    needed = [place(experiment, *where) for where in places for place in (paths.completions, paths.scores)]
    if not all(path.exists() for path in needed):
        return None
    rows = [row for where in places for row in _table_rows(experiment, *where)]
    judges = dict.fromkeys(judge for entry in policies.values() for judge in entry)
    columns = ["policy", "seed", *COMPLETION_COLUMNS, *(f"toxicity/{name}" for name in judges)]
    return {column: [row.get(column) for row in rows] for column in columns}


def _table_rows(experiment: str, seed: int, policy: str) -> Iterator[dict[str, Any]]:
    toxicity = {
        (row["prompt_id"], row["sample"], row["judge"]): row["toxicity"]
        for row in read_jsonl(paths.scores(experiment, seed, policy))
    }
    judges = dict.fromkeys(judge for _, _, judge in toxicity)
    for row in read_jsonl(paths.completions(experiment, seed, policy)):
        shown = {key: row[key] for key in COMPLETION_COLUMNS}
        scores = {f"toxicity/{judge}": toxicity.get((row["prompt_id"], row["sample"], judge)) for judge in judges}
        yield {"policy": policy, "seed": seed} | shown | scores


def _policies(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of the policies; the judges of `meta` are their hashes."""
    return {
        name: entry
        for name, entry in evaluation.items()
        if name != "meta" and isinstance(entry, Mapping) and "judges" in entry
    }
