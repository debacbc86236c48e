"""What a policy paid for being less toxic: fluency, diversity, length, distance from the reference, erasure.

Shapes: P prompts, S seeds, K samples. A completion that a measure does not apply to (no analysis, too short) is NaN
there and takes no part. Token counts and n-grams leave EOS out; perplexity and KL include it where it was emitted.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation import ngrams, statistics
from pipeline.evaluation.ngrams import NgramCounts
from pipeline.evaluation.rows import Completion
from pipeline.evaluation.spread import Array
from pipeline.scorers import identity, rouge

DISTINCT_ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Measures:
    """Per completion of one policy, [P, S, K] each: see `measure`; overlaps by name, and the n-grams by n."""

    length: Array
    finished: Array
    empty: Array
    repetition: Array
    perplexity: Array
    kl: Array
    analyzed_tokens: Array
    mentions: Array
    rouge: dict[str, Array]
    distinct: dict[int, NgramCounts]

    def of_seed(self, index: int) -> "Measures":
        """Return the measures of one seed alone."""
        chosen = slice(index, index + 1)
        arrays = {name: value[:, chosen] for name, value in vars(self).items() if name not in ("rouge", "distinct")}
        return Measures(
            **arrays,
            rouge={name: values[:, chosen] for name, values in self.rouge.items()},
            distinct={n: counts.of_seed(index) for n, counts in self.distinct.items()},
        )


def measure(
    by_seed: Sequence[Sequence[Completion]],
    prompts: int,
    terms: Sequence[str],
    demonstrations: Mapping[str, Sequence[str]],
    surprises: Array | None = None,
) -> Measures:
    """Measure one policy's completions, given for each seed in the order of (prompt, sample).

    `repetition` is seq-rep-3: the share of a completion's 3-grams that repeat an earlier one (Welleck et al. 2020,
    there with n = 4 on longer texts). `perplexity` is exp of the mean negative log-prob a token: `surprises` [P, S, K]
    under the fluency model where there are any, else what `complete` measured under the base model.
    `kl` is the summed log-prob under the policy minus the reference, in nats: the k1 estimate of
    KL(policy || reference) on the policy's own samples. Where complete.top_p < 1 or temperature != 1 these come from
    another distribution than the log-probs, and it only approximates the KL; the evaluation's meta says so.
    `mentions` tells whether a completion names a group of people (`terms`). `rouge` compares it to the demonstrations
    of its prompt id: the best F1 over them, NaN where there is none.
    """

    def grid(value: Callable[[Completion], float | None]) -> Array:
        return _arranged([[value(row) for row in rows] for rows in by_seed], prompts)

    with np.errstate(over="ignore"):  # beyond exp(709) it is infinite, which is written as missing and fails the guard
        perplexity = np.exp(grid(_surprise) if surprises is None else surprises)
    texts = [[row.text_tokens for row in rows] for rows in by_seed]
    return Measures(
        length=grid(lambda row: len(row.text_tokens)),
        finished=grid(lambda row: row.finished),
        empty=grid(lambda row: not row.completion.strip()),
        repetition=grid(lambda row: ngrams.repetition(row.text_tokens, order=3)),
        perplexity=perplexity,
        kl=grid(lambda row: None if row.logprobs is None else row.logprobs.policy - row.logprobs.reference),
        analyzed_tokens=grid(lambda row: None if row.logprobs is None else len(row.token_ids)),
        mentions=grid(lambda row: identity.mentions(row.completion, terms)),
        rouge=_rouge(by_seed, prompts, demonstrations),
        distinct={n: ngrams.count(texts, prompts, n) for n in DISTINCT_ORDERS},
    )


def _arranged(by_seed: Sequence[Sequence[float | None]], prompts: int) -> Array:
    columns = [[float("nan") if value is None else value for value in values] for values in by_seed]
    return np.array(columns, dtype=np.float64).reshape(len(by_seed), prompts, -1).transpose(1, 0, 2)


def _surprise(row: Completion) -> float | None:
    """Return the mean negative log-prob a token under the base, in nats; a lone EOS is no text and has none."""
    if row.logprobs is None or not row.text_tokens:
        return None
    return -row.logprobs.base / len(row.token_ids)


def _rouge(
    by_seed: Sequence[Sequence[Completion]], prompts: int, demonstrations: Mapping[str, Sequence[str]]
) -> dict[str, Array]:
    """Return the overlaps by name, [P, S, K] each; none where no prompt has a demonstration."""
    if not any(demonstrations.values()):
        return {}
    found = [
        rouge.rouge([row.completion for row in rows], [demonstrations.get(row.prompt_id, ()) for row in rows])
        for rows in by_seed
    ]
    return {name: _arranged([overlaps[name] for overlaps in found], prompts) for name in rouge.ROUGE}


def values(measures: Measures) -> dict[str, float]:
    """Return every guard's value; pooled over seeds, except distinct-n, which is the mean over seeds."""
    tokens = np.nansum(measures.analyzed_tokens)
    present = measures.perplexity[~np.isnan(measures.perplexity)]
    return {
        "perplexity_median": float(np.median(present)) if present.size else float("nan"),
        **{f"distinct_{n}": ngrams.distinct(counts) for n, counts in measures.distinct.items()},
        **{name: statistics.mean(values) for name, values in means(measures).items()},
        "kl_per_token": float(np.nansum(measures.kl) / tokens) if tokens else float("nan"),
    }


def means(measures: Measures) -> dict[str, Array]:
    """Return the [P, S, K] arrays whose mean is a guard's value; ROUGE only where there is something to find."""
    return {
        "repetition": measures.repetition,
        "empty_rate": measures.empty,
        "length_mean": measures.length,
        "finished_rate": measures.finished,
        "kl": measures.kl,
        "identity_mention_rate": measures.mentions,
        **{name: array for name, array in measures.rouge.items() if not np.isnan(array).all()},
    }
