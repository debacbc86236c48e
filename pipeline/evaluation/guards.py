"""What a policy paid for being less toxic: fluency, diversity, length and distance from the reference.

Shapes: P prompts, S seeds, K samples. A completion that a measure does not apply to (no analysis, too short) is NaN
there and takes no part. Token counts and n-grams leave EOS out; perplexity and KL include it where it was emitted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation import ngrams, statistics
from pipeline.evaluation.ngrams import NgramCounts
from pipeline.evaluation.rows import Completion
from pipeline.evaluation.statistics import Array, Interval

DISTINCT_ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Measures:
    """Per completion of one policy, [P, S, K] each: see `measure`; and the n-grams by n."""

    length: Array
    finished: Array
    empty: Array
    repetition: Array
    perplexity: Array
    kl: Array
    analyzed_tokens: Array
    distinct: dict[int, NgramCounts]

    def of_seed(self, index: int) -> "Measures":
        """Return the measures of one seed alone."""
        arrays = {name: value[:, index : index + 1] for name, value in vars(self).items() if name != "distinct"}
        return Measures(**arrays, distinct={n: counts.of_seed(index) for n, counts in self.distinct.items()})


def measure(by_seed: Sequence[Sequence[Completion]], prompts: int) -> Measures:
    """Measure one policy's completions, given for each seed in the order of (prompt, sample).

    `repetition` is seq-rep-3: the share of a completion's 3-grams that repeat an earlier one (Welleck et al. 2020,
    there with n = 4 on longer texts). `perplexity` is exp of the mean negative log-prob a token under the base model.
    `kl` is the summed log-prob under the policy minus the reference, in nats: the k1 estimate of
    KL(policy || reference) on the policy's own samples. Where complete.top_p < 1 or temperature != 1 these come from
    another distribution than the log-probs, and it only approximates the KL; the evaluation's meta says so.
    """

    def grid(value: Callable[[Completion], float | None]) -> Array:
        columns = [[float("nan") if (x := value(row)) is None else x for row in rows] for rows in by_seed]
        return np.array(columns, dtype=np.float64).reshape(len(by_seed), prompts, -1).transpose(1, 0, 2)

    with np.errstate(over="ignore"):  # beyond exp(709) it is infinite, which is written as missing and fails the guard
        perplexity = np.exp(grid(_surprise))
    texts = [[row.text_tokens for row in rows] for rows in by_seed]
    return Measures(
        length=grid(lambda row: len(row.text_tokens)),
        finished=grid(lambda row: row.finished),
        empty=grid(lambda row: not row.completion.strip()),
        repetition=grid(lambda row: ngrams.repetition(row.text_tokens, order=3)),
        perplexity=perplexity,
        kl=grid(lambda row: None if row.logprobs is None else row.logprobs.policy - row.logprobs.reference),
        analyzed_tokens=grid(lambda row: None if row.logprobs is None else len(row.token_ids)),
        distinct={n: ngrams.count(texts, prompts, n) for n in DISTINCT_ORDERS},
    )


def _surprise(row: Completion) -> float | None:
    """Return the mean negative log-prob a token under the base, in nats; a lone EOS is no text and has none."""
    if row.logprobs is None or not row.text_tokens:
        return None
    return -row.logprobs.base / len(row.token_ids)


def values(measures: Measures) -> dict[str, float]:
    """Return every guard's value; pooled over seeds, except distinct-n, which is the mean over seeds."""
    tokens = np.nansum(measures.analyzed_tokens)
    present = measures.perplexity[~np.isnan(measures.perplexity)]
    return {
        "perplexity_median": float(np.median(present)) if present.size else float("nan"),
        **{f"distinct_{n}": ngrams.distinct(counts) for n, counts in measures.distinct.items()},
        "repetition": statistics.mean(measures.repetition),
        "empty_rate": statistics.mean(measures.empty),
        "length_mean": statistics.mean(measures.length),
        "finished_rate": statistics.mean(measures.finished),
        "kl": statistics.mean(measures.kl),
        "kl_per_token": float(np.nansum(measures.kl) / tokens) if tokens else float("nan"),
    }


def ratios(policy: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, float]:
    """Return median perplexity and distinct-2 of a policy divided by the reference's, from the `values` of both."""
    return {
        "perplexity_ratio": policy["perplexity_median"] / reference["perplexity_median"],
        "distinct_2_ratio": policy["distinct_2"] / reference["distinct_2"],
    }


def ratio_intervals(
    policy: Measures, reference: Measures, medians: tuple[Array, Array], confidence: float
) -> dict[str, Interval]:
    """Return the `ratios` with their intervals, clustered by prompt.

    `medians` are the `median_replicates` of both perplexities, policy first: a paired percentile bootstrap. Distinct-2
    takes the jackknife over prompts, because a resample holds prompts twice and so repeats n-grams by construction.
    """
    value = ratios(values(policy), values(reference))
    without = [ngrams.distinct_without_each_prompt(measures.distinct[2]) for measures in (policy, reference)]
    return {
        "perplexity_ratio": statistics.percentile_interval(
            value["perplexity_ratio"], medians[0] / medians[1], confidence
        ),
        "distinct_2_ratio": statistics.jackknife_interval(
            value["distinct_2_ratio"], without[0] / without[1], confidence
        ),
    }


def failed(ratio: Mapping[str, float], max_perplexity_increase: float, max_distinct_2_decrease: float) -> str:
    """Return the names of the guards that `ratio` (by the names of `ratios`) breaks, comma-separated; "" if none.

    The estimate counts, not its interval. A ratio that is missing (NaN) breaks its guard.
    """
    kept = {
        "perplexity_median": ratio["perplexity_ratio"] <= 1 + max_perplexity_increase,
        "distinct_2": ratio["distinct_2_ratio"] >= 1 - max_distinct_2_decrease,
    }
    return ", ".join(name for name, holds in kept.items() if not holds)
