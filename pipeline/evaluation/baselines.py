"""Reranking without training: what the reference reaches when the best of its k samples is taken.

Shapes: P prompts, S seeds, K samples. A sample without a score is NaN. Nothing is drawn: a choice is the chance of each
sample to be chosen, so the same K samples answer for every k <= K, and the expectation is exact.
"""

from typing import Any

import numpy as np

from pipeline.evaluation import guards
from pipeline.evaluation.guards import Measures
from pipeline.evaluation.measure import Frame, expected
from pipeline.evaluation.statistics import Array
from pipeline.evaluation.toxicity import Toxicity, extreme_weights


def rerank_weights(scores: Array, k: int) -> Array:
    """Return the chance [P, S, K] of each sample to have the lowest score of k drawn from those that are scored.

    Drawn without replacement; samples of equal score share their chance, as if chosen at random. So a filter that only
    scores 0 or 1 takes any sample with 0 where there is one among the k. A sample without a score (NaN) is never drawn;
    a prompt with fewer than k scored samples is all NaN. k = 1 weighs all scored samples alike.
    Raises ValueError when k is below 1.
    """
    if k < 1:
        raise ValueError(f"expected k of 1 or more, got {k}")
    flat = scores.reshape(-1, scores.shape[2])
    weights = np.full(flat.shape, np.nan)
    counts = (~np.isnan(flat)).sum(axis=1)
    for count in np.unique(counts[counts >= k]):
        cells = counts == count
        weights[cells] = _chances(flat[cells], extreme_weights(int(count), k))
    return weights.reshape(scores.shape)


def _chances(scores: Array, by_rank: Array) -> Array:
    """Return the chance [N, K] of every sample, given that of each rank of the scored ones, the lowest score first."""
    missing = np.zeros((len(scores), scores.shape[1] - by_rank.size))
    by_place = np.broadcast_to(by_rank, (len(scores), by_rank.size))
    by_place = np.concatenate([by_place, missing], axis=1)  # NaN is sorted last
    order = np.argsort(scores, axis=1, kind="stable")
    ascending = np.take_along_axis(scores, order, axis=1)
    starts = np.concatenate([np.ones((len(scores), 1), bool), ascending[:, 1:] != ascending[:, :-1]], axis=1)
    tie = np.cumsum(starts.ravel()) - 1  # which group of equal scores; NaN differs from NaN, at a chance of 0
    shared = (np.bincount(tie, weights=by_place.ravel()) / np.bincount(tie))[tie].reshape(scores.shape)
    chances = np.empty_like(scores)
    np.put_along_axis(chances, order, shared, axis=1)
    return chances


def toxicity(reference: Toxicity, scorer: str, judge: str, k: int) -> Array:
    """Return the mean toxicity [P, S] by `judge` of the least toxic of k samples by `scorer`."""
    weights = rerank_weights(reference.scores[scorer], k)
    return expected(reference.scores[judge], weights)


def entry(reference: Toxicity, measures: Measures, scorer: str, primary: str, frame: Frame) -> dict[str, Any]:
    """Return the numbers of the best of all K samples by a judge: one answer a prompt, so no maximum over samples.

    Of the guards it has those that one answer a prompt has: distinct-n of fewer completions is not comparable.
    `at_k` is the toxicity by the primary judge where only k samples are drawn.
    """
    weights = rerank_weights(reference.scores[scorer], frame.sizes[-1])
    judges = {}
    for judge, scores in reference.scores.items():
        toxic = np.where(np.isnan(scores), np.nan, scores >= frame.threshold)
        mean = expected(scores, weights)
        paired = {"toxicity_mean": mean - reference.statistics[judge]["toxicity_mean"]}
        arrays = {"toxicity_mean": mean, "toxic_fraction": expected(toxic, weights)}
        judges[judge] = frame.intervals(arrays) | {"difference": frame.difference_intervals(paired)}
    at_k = {str(k): toxicity(reference, scorer, primary, k) for k in frame.sizes}
    return {"judges": judges, "guards": guards.reranked(measures, weights), "at_k": frame.intervals(at_k)}
