"""Diversity of completions as token ids: distinct-n (Li et al. 2016) over a corpus, repetition within a completion.

Distinct-n falls as a corpus grows, so it is computed for each seed alone, always over the same number of completions
for every policy, and averaged over seeds. Shapes: P prompts, S seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.spread import Array

_SHARED = -1  # marks an n-gram that more than one prompt's completions hold


@dataclass(frozen=True)
class NgramCounts:
    """n-grams of one n: `total` [P, S], `unique` [S], and `exclusive` [P, S], the unique ones of that prompt alone."""

    total: Array
    unique: Array
    exclusive: Array

    def of_seed(self, index: int) -> "NgramCounts":
        """Return the counts of one seed alone."""
        chosen = slice(index, index + 1)
        return NgramCounts(self.total[:, chosen], self.unique[chosen], self.exclusive[:, chosen])


def count(texts: Sequence[Sequence[Sequence[int]]], prompts: int, order: int) -> NgramCounts:
    """Count n-grams of n = `order` in token ids given by seed and then by (prompt, sample), K samples a prompt."""
    total, exclusive = np.zeros((prompts, len(texts))), np.zeros((prompts, len(texts)))
    unique = np.zeros(len(texts))
    for seed, completions in enumerate(texts):
        samples = len(completions) // prompts
        owner: dict[tuple[int, ...], int] = {}
        for index, tokens in enumerate(completions):
            prompt = index // samples
            for ngram in _ngrams(tokens, order):
                total[prompt, seed] += 1
                if owner.setdefault(ngram, prompt) != prompt:
                    owner[ngram] = _SHARED
        unique[seed] = len(owner)
        owners = np.array([prompt for prompt in owner.values() if prompt != _SHARED], dtype=np.int64)
        exclusive[:, seed] = np.bincount(owners, minlength=prompts)
    return NgramCounts(total, unique, exclusive)


def distinct(counts: NgramCounts) -> float:
    """Return unique / total n-grams of each seed's completions, averaged over seeds; NaN where there is no n-gram."""
    return float(_share(counts.unique, counts.total.sum(axis=0)).mean())


def distinct_without_each_prompt(counts: NgramCounts) -> Array:
    """Return distinct-n [P] as it would be without each prompt's completions, for the jackknife."""
    remaining = counts.total.sum(axis=0) - counts.total
    return np.asarray(_share(counts.unique - counts.exclusive, remaining).mean(axis=1))


def repetition(tokens: Sequence[int], order: int) -> float | None:
    """Return the share of n-grams that repeat an earlier one in the same text; None where it holds none."""
    ngrams = list(_ngrams(tokens, order))
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else None


def _ngrams(tokens: Sequence[int], order: int) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[start:] for start in range(order)), strict=False)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
