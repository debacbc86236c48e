"""How varied completions are: distinct-n, the share of different n-grams of tokens among all (Li et al. 2016).

It falls as a corpus grows, so it is computed for each seed alone, always over the same number of completions for every
policy, and averaged over seeds. EOS is left out. Shapes: P prompts, S seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import Jackknifed, Outputs
from pipeline.evaluation.statistics import Array

MEANING = {
    "distinct_1": "diversity: share of distinct words",
    "distinct_2": "diversity: share of distinct pairs of tokens",
    "distinct_3": "diversity: share of distinct triples of tokens",
}
_SHARED = -1  # marks an n-gram that more than one prompt's completions hold


@dataclass(frozen=True)
class Distinct(Jackknifed):
    """n-grams of one n: `total` [P, S], `unique` [S], and `exclusive` [P, S], the unique ones of that prompt alone.

    A bootstrap would not do: a resample holds prompts twice and so repeats n-grams by construction.
    """

    total: Array
    unique: Array
    exclusive: Array

    def value(self) -> float:
        """Return unique / total n-grams of each seed's completions, averaged over seeds; NaN where there is none."""
        return float(_share(self.unique, self.total.sum(axis=0)).mean())

    def of_seed(self, index: int) -> Self:
        """Return the same of one seed alone."""
        chosen = slice(index, index + 1)
        return type(self)(self.total[:, chosen], self.unique[chosen], self.exclusive[:, chosen])

    def without_each_prompt(self) -> Array:
        """Return distinct-n [P] as it would be without each prompt's completions."""
        remaining = self.total.sum(axis=0) - self.total
        return np.asarray(_share(self.unique - self.exclusive, remaining).mean(axis=1))


def count(texts: Sequence[Sequence[Sequence[int]]], prompts: int, order: int) -> Distinct:
    """Count n-grams of n = `order` in token ids given by seed and then by (prompt, sample), K samples a prompt."""
    total, exclusive = np.zeros((prompts, len(texts))), np.zeros((prompts, len(texts)))
    unique = np.zeros(len(texts))
    for seed, completions in enumerate(texts):
        samples = len(completions) // prompts
        owner: dict[tuple[int, ...], int] = {}
        for index, tokens in enumerate(completions):
            prompt = index // samples
            for ngram in zip(*(tokens[start:] for start in range(order)), strict=False):
                total[prompt, seed] += 1
                if owner.setdefault(ngram, prompt) != prompt:
                    owner[ngram] = _SHARED
        unique[seed] = len(owner)
        owners = np.array([prompt for prompt in owner.values() if prompt != _SHARED], dtype=np.int64)
        exclusive[:, seed] = np.bincount(owners, minlength=prompts)
    return Distinct(total, unique, exclusive)


def _share(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _measure(outputs: Outputs) -> dict[str, Distinct]:
    texts = [[row.text_tokens for row in rows] for rows in outputs.completions]
    return {name: count(texts, outputs.prompts, order) for order, name in enumerate(MEANING, start=1)}


METRIC = Metric("distinct", MEANING, _measure)
