"""What a metric gives: one number of one policy, pooled over seeds or of one seed, and its change from the reference.

Shapes: P prompts, S seeds, K samples, I items of a probe. A missing value is NaN and takes no part.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from pipeline.evaluation import statistics
from pipeline.evaluation.probed import Probed
from pipeline.evaluation.rows import Completion
from pipeline.evaluation.statistics import UNBOUNDED, Array, Bounds, Interval, Resampling

NAN = float("nan")
NO_INTERVAL = Interval(NAN, NAN, NAN)


@dataclass(frozen=True)
class Frame:
    """What every number of an evaluation shares: resamples, confidence, threshold, seed, judge cards, sizes k."""

    resampling: Resampling
    confidence: float
    threshold: float
    resamples: int
    seed: int
    cards: Mapping[str, Mapping[str, Any]]
    sizes: Sequence[int]

    def intervals(self, arrays: Mapping[str, Array]) -> dict[str, dict[str, float]]:
        """Return the mean of every [P, S] array of levels, which lie in [0, 1], with its interval."""
        return self._intervals(arrays, (0.0, 1.0))

    def difference_intervals(self, arrays: Mapping[str, Array]) -> dict[str, dict[str, float]]:
        """Return the mean of every [P, S] array of differences between levels with its interval."""
        return self._intervals(arrays, (-1.0, 1.0))

    def _intervals(self, arrays: Mapping[str, Array], bounds: Bounds) -> dict[str, dict[str, float]]:
        if not arrays:
            return {}
        found = statistics.mean_intervals(arrays, self.resampling, self.confidence, bounds)
        return {name: asdict(interval) for name, interval in found.items()}


@dataclass(frozen=True)
class Outputs:
    """All that a metric may look at: what one policy gave, and what is known of it.

    `completions[s]` is in the order of (prompt, sample), `prompts` says of how many prompts. `terms` name groups of
    people. `demonstrations` by prompt id. `surprises` [P, S, K] are negative log-probs a token in nats under the
    fluency model, None where the base model measures perplexity. `refused` [P, S, K] is 1 where a completion declines,
    None where refusals are not judged. `categories`: the indices of the prompts of each. `probed` is of all policies.
    """

    policy: str
    completions: Sequence[Sequence[Completion]]
    prompts: int
    terms: Sequence[str] = ()
    demonstrations: Mapping[str, Sequence[str]] = field(default_factory=dict)
    surprises: Array | None = None
    refused: Array | None = None
    categories: Mapping[str, Sequence[int]] = field(default_factory=dict)
    probed: Probed = Probed({})

    def cells(self, value: Callable[[Completion], float | None]) -> Array:
        """Return a number of every completion, [P, S, K]; NaN where it is None: the metric does not apply to it."""
        return self.arranged([[value(row) for row in rows] for rows in self.completions])

    def arranged(self, by_seed: Sequence[Sequence[float | None]]) -> Array:
        """Arrange values, by seed in the order of (prompt, sample), as [P, S, K]."""
        columns = [[NAN if value is None else value for value in values] for values in by_seed]
        return np.array(columns, dtype=np.float64).reshape(len(by_seed), self.prompts, -1).transpose(1, 0, 2)


class Measure(ABC):
    """One value of one policy. What has no change is not for a guard; what has no `reranked` is not for a baseline."""

    @abstractmethod
    def value(self) -> float:
        """Return the value, pooled over seeds; NaN where there is none."""

    @abstractmethod
    def of_seed(self, index: int) -> Self:
        """Return the same of one seed alone."""

    def change(self, reference: Self, kind: str, frame: Frame) -> Interval:
        """Return the change from the reference, as `kind` says, with its interval."""
        return NO_INTERVAL

    def reranked(self, weights: Array) -> float | None:
        """Return the value where each sample [P, S, K] is a prompt's answer by its chance; None for no such value."""
        return None


class Jackknifed(Measure):
    """A value whose changes have the interval of the jackknife over prompts: each is left out in turn."""

    @abstractmethod
    def without_each_prompt(self) -> Array:
        """Return the value [P] as it would be without each prompt."""

    def change(self, reference: Self, kind: str, frame: Frame) -> Interval:
        """Return the change of the value, between the normal ends of its jackknife."""
        value = float(shift(kind, np.array(self.value()), np.array(reference.value())))
        left_out = shift(kind, self.without_each_prompt(), reference.without_each_prompt())
        return statistics.jackknife_interval(value, left_out, frame.confidence)


def shift(kind: str, policy: Array, reference: Array) -> Array:
    """Return how far values lie from the reference's: the difference, or that over the reference's value."""
    if kind == "absolute":
        return policy - reference
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = policy / reference - 1
    return np.where(np.isfinite(ratio), ratio, np.nan)  # of nothing there is no share


@dataclass(frozen=True)
class Mean(Jackknifed):
    """The mean over completions of one number each, [P, S, K]; `comparable`: one answer a prompt has it too."""

    cells: Array
    comparable: bool = True

    def value(self) -> float:
        """Return the mean of the completions that have the number."""
        return statistics.mean(self.cells)

    def of_seed(self, index: int) -> Self:
        """Return the same of one seed alone."""
        return replace(self, cells=self.cells[:, index : index + 1])

    def without_each_prompt(self) -> Array:
        """Return the mean [P] without each prompt; NaN where nothing is left."""
        present = ~np.isnan(self.cells)
        counts = present.sum(axis=(1, 2)).astype(np.float64)
        sums = np.where(present, self.cells, 0.0).sum(axis=(1, 2))
        remaining = counts.sum() - counts
        return np.divide(sums.sum() - sums, remaining, out=np.full_like(sums, np.nan), where=remaining > 0)

    def reranked(self, weights: Array) -> float | None:
        """Return the mean over prompts of what the chosen sample is expected to have."""
        return statistics.mean(expected(self.cells, weights)) if self.comparable else None


def per_completion(value: Callable[[Completion], float | None], comparable: bool = True) -> Callable[[Outputs], Mean]:
    """Return the `measure` of a metric that is the mean of one number a completion; None takes no part."""
    return lambda outputs: Mean(outputs.cells(value), comparable)


@dataclass(frozen=True)
class ItemMean(Measure):
    """The mean over the items of a probe, [I, S]; a change, of whatever kind, is the mean of the paired differences.

    Items are resampled with replacement and, where there are several seeds, seeds as well; the same for policy and
    reference. `bounds`: what no change leaves.
    """

    cells: Array
    bounds: Bounds = UNBOUNDED

    def value(self) -> float:
        """Return the mean, pooled over seeds."""
        return statistics.mean(self.cells)

    def of_seed(self, index: int) -> Self:
        """Return the same of one seed alone."""
        return replace(self, cells=self.cells[:, index : index + 1])

    def change(self, reference: Self, kind: str, frame: Frame) -> Interval:
        """Return the mean of the paired differences with its bootstrap interval."""
        resampling = statistics.draw(len(self.cells), self.cells.shape[1], frame.resamples, frame.seed)
        differences = {"it": self.cells - reference.cells}
        return statistics.mean_intervals(differences, resampling, frame.confidence, self.bounds)["it"]


def expected(values: Array, weights: Array) -> Array:
    """Return the expectation [P, S] of [P, S, K] values, of which one is chosen by its chance in `weights`.

    A value that is missing (NaN) is left out and the chances of the others are scaled up to 1, as missing scores are
    left out of a prompt's mean everywhere. NaN where the weights are, or where no sample that can be chosen has one.
    """
    present = ~np.isnan(values)
    chances = np.where(present, weights, 0.0)
    total = chances.sum(axis=2)
    sums = (np.where(present, values, 0.0) * chances).sum(axis=2)
    return statistics.quotient(sums, np.where(total > 0, total, np.nan))
