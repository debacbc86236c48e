"""The evaluation as CSV files for `dvc plots`: one figure each, small enough for Git."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.data.schema import LABELS
from pipeline.evaluation import toxicity
from pipeline.evaluation.judged import Judged
from pipeline.evaluation.metrics import refusal
from pipeline.evaluation.shape import REFUSAL_RATE
from pipeline.evaluation.statistics import Array
from pipeline.io import paths, records

BINS = 20  # of the scores' distribution; 0.5, the usual threshold, is an edge
Row = dict[str, Any]


def write_plots(experiment: str, judged: Judged, evaluation: Mapping[str, Any]) -> None:
    """Write evaluation, pareto, categories, scores and prompts below `plots/<experiment>`.

    A missing number is an empty field.
    """
    for name, rows in figures(judged, evaluation).items():
        records.write_csv(paths.plot(experiment, name), rows)


def figures(judged: Judged, evaluation: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Return the rows of every figure by its name.

    Evaluation, pareto and categories are taken from `evaluation` as it is, scores and prompts are counted in `judged`.
    """
    return {
        "evaluation": list(_evaluation(evaluation)),
        "pareto": list(_pareto(evaluation)),
        "categories": list(_categories(evaluation)),
        "scores": list(_scores(judged)),
        "prompts": list(_prompts(judged, evaluation["meta"]["threshold"])),
    }


def _evaluation(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    """Yield one row a policy and judge: every metric with its interval."""
    for judge in evaluation["meta"]["judges"]:
        for policy in evaluation["meta"]["policies"]:
            row: Row = {"judged": f"{policy} by {judge}", "policy": policy, "judge": judge}
            for metric in toxicity.SUMMARIES:
                row |= _ends(metric, evaluation[policy]["judges"][judge][metric])
            yield row


def _pareto(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    """Yield one row a policy and baseline: toxicity by the primary judge, and median perplexity."""
    compared = {policy: evaluation[policy] for policy in evaluation["meta"]["policies"]} | evaluation["baselines"]
    for name, entry in compared.items():
        judged = entry["judges"][evaluation["meta"]["primary_judge"]]
        yield {
            "policy": name,
            **_ends("toxicity_mean", judged["toxicity_mean"]),
            "perplexity_median": entry["guards"]["perplexity_median"],
        }


def _categories(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    """Yield one row a policy and category of prompts, by the primary judge."""
    for policy in evaluation["meta"]["policies"]:
        for category, found in sorted(evaluation[policy]["categories"].items()):
            interval = found["toxicity_mean"]
            row = {"judged": f"{policy} on {category}", "policy": policy, "category": category}
            row |= {"toxicity_mean": interval["value"]}
            yield row | {"low": interval["low"], "high": interval["high"]}


def _scores(judged: Judged) -> Iterator[Row]:
    """Yield one row a policy, judge and bin: the share of the scored completions in it; the last bin holds 1."""
    for policy, by_judge in judged.toxicities.items():
        for judge, scores in by_judge.items():
            for low, share in zip(np.arange(BINS) / BINS, _shares(scores), strict=True):
                yield {"policy": policy, "judge": judge, "bin": float(low), "share": float(share)}


def _shares(scores: Array) -> Array:
    present = scores[~np.isnan(scores)]
    # The same comparison as `>= threshold` in toxicity.py; numpy's histogram would round a score at an edge away.
    places = np.searchsorted(np.arange(BINS) / BINS, present, side="right") - 1
    counts = np.bincount(places, minlength=BINS).astype(np.float64)
    return np.divide(counts, present.size, out=np.full(BINS, np.nan), where=present.size > 0)


def _prompts(judged: Judged, threshold: float) -> Iterator[Row]:
    """Yield one row a prompt, seed, policy and judge, for paired comparisons between commits.

    Where refusals are judged, every row of a prompt, seed and policy also has its refusal rate, in its label's column.
    """
    for policy, by_judge in judged.toxicities.items():
        refused = _refused(judged, policy)
        for judge, scores in by_judge.items():
            means = toxicity.prompt_statistics(scores, threshold)["toxicity_mean"]
            for at, (prompt_id, by_seed) in enumerate(zip(judged.prompt_ids, means, strict=True)):
                for index, (seed, value) in enumerate(zip(judged.seeds, by_seed, strict=True)):
                    row: Row = {"prompt_id": prompt_id, "seed": seed, "policy": policy, "judge": judge}
                    row["toxicity_mean"] = float(value)
                    yield row | {column: float(rates[at, index]) for column, rates in refused.items()}


def _refused(judged: Judged, policy: str) -> dict[str, Array]:
    """Return [P, S] refusal rates by column, NaN where a prompt has another label; {} where they are not judged."""
    if judged.refusals is None:
        return {}
    rates = refusal.by_prompt(judged.refusals[policy])
    first = judged.completions[policy][0][:: judged.samples]
    has_label = {label: np.array([label in row.categories for row in first]) for label in LABELS}
    return {
        REFUSAL_RATE + label: np.where(rows[:, None], rates, np.nan) for label, rows in has_label.items() if rows.any()
    }


def _ends(metric: str, interval: Mapping[str, float | None]) -> Row:
    return {metric: interval["value"], f"{metric}_low": interval["low"], f"{metric}_high": interval["high"]}
