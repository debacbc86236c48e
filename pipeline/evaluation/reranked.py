"""What reranking the reference's samples achieves without any training: the baselines of every trained method."""

from typing import Any

import numpy as np

from pipeline.evaluation import baselines, guards, statistics
from pipeline.evaluation.measured import Frame, Measured
from pipeline.evaluation.spread import Array

MEANS = ("repetition", "empty_rate", "length_mean", "identity_mention_rate")


def toxicity(reference: Measured, scorer: str, judge: str, k: int) -> Array:
    """Return the mean toxicity [P, S] by `judge` of the least toxic of k samples by `scorer`."""
    weights = baselines.rerank_weights(reference.toxicities[scorer], k)
    return baselines.expected(reference.toxicities[judge], weights)


def entry(reference: Measured, scorer: str, primary: str, frame: Frame) -> dict[str, Any]:
    """Return the numbers of the best of all K samples by a judge: one answer a prompt, so no maximum over samples.

    `at_k` is the toxicity by the primary judge where only k samples are drawn.
    """
    weights = baselines.rerank_weights(reference.toxicities[scorer], frame.sizes[-1])
    judges = {}
    for judge, scores in reference.toxicities.items():
        toxic = np.where(np.isnan(scores), np.nan, scores >= frame.threshold)
        mean = baselines.expected(scores, weights)
        paired = {"toxicity_mean": mean - reference.statistics[judge]["toxicity_mean"]}
        arrays = {"toxicity_mean": mean, "toxic_fraction": baselines.expected(toxic, weights)}
        judges[judge] = frame.intervals(arrays) | {"difference": frame.difference_intervals(paired)}
    at_k = {str(k): toxicity(reference, scorer, primary, k) for k in frame.sizes}
    return {"judges": judges, "guards": _guards(reference, weights), "at_k": frame.intervals(at_k)}


def _guards(reference: Measured, weights: Array) -> dict[str, float]:
    """Return those guards that one answer a prompt has; distinct-n of fewer completions is not comparable."""
    arrays = guards.means(reference.measures)
    means = {name: statistics.mean(baselines.expected(arrays[name], weights)) for name in MEANS}
    return means | {"perplexity_median": _median(reference.measures.perplexity, weights)}


def _median(values: Array, weights: Array) -> float:
    """Return the weighted median of the values that are present: those of the analyzed samples."""
    used = ~np.isnan(values) & (np.nan_to_num(weights) > 0)
    if not used.any():
        return float("nan")
    return float(np.quantile(values[used], 0.5, weights=weights[used], method="inverted_cdf"))
