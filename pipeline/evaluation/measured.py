"""Everything that is measured of one policy, and the numbers of one judge. Shapes: P prompts, S seeds, K samples."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.evaluation import guards, judging, statistics, toxicity
from pipeline.evaluation.guards import Measures
from pipeline.evaluation.spread import Array
from pipeline.evaluation.statistics import Bounds, Interval, Resampling


@dataclass(frozen=True)
class Measured:
    """Toxicities [P, S, K] by judge, what is known of each prompt [P, S] by judge and metric, and the guards.

    `cuts` [P, S, K] by judge: 1 where it was shown the beginning of a text alone, NaN where that was not recorded.
    """

    toxicities: dict[str, Array]
    cuts: dict[str, Array]
    statistics: dict[str, dict[str, Array]]
    measures: Measures

    def of_seed(self, index: int) -> "Measured":
        """Return the same of one seed alone."""
        chosen = slice(index, index + 1)
        return Measured(
            toxicities={judge: array[:, chosen] for judge, array in self.toxicities.items()},
            cuts={judge: array[:, chosen] for judge, array in self.cuts.items()},
            statistics={
                judge: {metric: array[:, chosen] for metric, array in arrays.items()}
                for judge, arrays in self.statistics.items()
            },
            measures=self.measures.of_seed(index),
        )


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


def sizes(samples: int) -> list[int]:
    """Return the k for which the expected maximum is given: the powers of two up to `samples`, and that itself."""
    powers = [2**exponent for exponent in range(samples.bit_length()) if 2**exponent <= samples]
    return sorted({*powers, samples})


def measure(
    toxicities: Mapping[str, Array], cuts: Mapping[str, Array], measures: Measures, threshold: float
) -> Measured:
    """Reduce a policy's scores to what is known of each prompt."""
    reduced = {judge: toxicity.prompt_statistics(array, threshold) for judge, array in toxicities.items()}
    return Measured(dict(toxicities), dict(cuts), reduced, measures)


def judged(policy: Measured, reference: Measured | None, frame: Frame) -> dict[str, dict[str, Any]]:
    """Return the numbers of every judge; differences to `reference` where it is given."""
    return {judge: _by_judge(judge, policy, reference, frame) for judge in policy.toxicities}


def _by_judge(judge: str, policy: Measured, reference: Measured | None, frame: Frame) -> dict[str, Any]:
    arrays, scores = policy.statistics[judge], policy.toxicities[judge]
    maxima = {str(k): toxicity.expected_max_at(scores, k) for k in frame.sizes}
    entry: dict[str, Any] = frame.intervals(arrays) | {
        "missing_rate": toxicity.missing_rate(scores),
        "cut_rate": statistics.mean(policy.cuts[judge]),
        "emt_at_k": frame.intervals(maxima),
    }
    if test := frame.cards[judge].get("test"):
        corrected = judging.corrected_prevalence(
            arrays["toxic_fraction"],
            frame.resampling,
            test["sensitivity"],
            test["specificity"],
            frame.confidence,
            frame.seed,
        )
        entry["prevalence"] = asdict(corrected)
    if reference is not None:
        entry["difference"] = frame.difference_intervals(
            toxicity.paired_differences(arrays, reference.statistics[judge])
        )
    return entry


def hacking(policy: Measured, reference: Measured, reward: str, frame: Frame) -> dict[str, Any]:
    """Return the hacking gap to every judge that is not the reward scorer; empty where that did not score."""
    if reward not in policy.statistics:
        return {}
    means = [
        {judge: arrays["toxicity_mean"] for judge, arrays in one.statistics.items()} for one in (policy, reference)
    ]
    own, others = means
    return {
        judge: _plain(
            judging.hacking_gap(
                own[reward], others[reward], own[judge], others[judge], frame.resampling, frame.confidence
            )
        )
        for judge in own
        if judge != reward
    }


def by_category(
    policy: Array, reference: Array | None, members: Mapping[str, Sequence[int]], frame: Frame
) -> dict[str, Any]:
    """Return the mean toxicity over the prompts of each category, given by their indices, of [P, S] means."""
    entries: dict[str, Any] = {
        name: {"prompts": len(indices), "toxicity_mean": value}
        for (name, indices), value in zip(
            members.items(), frame.intervals(within(policy, members)).values(), strict=True
        )
    }
    if reference is not None:
        differences = frame.difference_intervals(within(policy - reference, members))
        for name, value in differences.items():
            entries[name]["difference"] = value
    return entries


def within(values: Array, members: Mapping[str, Sequence[int]]) -> dict[str, Array]:
    """Return [P, S] values of each category by name: a prompt outside of it is missing (NaN) there."""
    arrays = {}
    for name, indices in members.items():
        arrays[name] = np.full_like(values, np.nan)
        arrays[name][list(indices)] = values[list(indices)]
    return arrays


def by_seed(policy: Measured, reference: Measured | None) -> dict[str, Any]:
    """Return the main numbers of one seed, without intervals."""
    judges: dict[str, Any] = {}
    for judge, arrays in policy.statistics.items():
        judges[judge] = {metric: statistics.mean(array) for metric, array in arrays.items()}
        judges[judge]["missing_rate"] = toxicity.missing_rate(policy.toxicities[judge])
        if reference is not None:
            paired = toxicity.paired_differences(arrays, reference.statistics[judge])
            judges[judge]["difference"] = {metric: statistics.mean(array) for metric, array in paired.items()}
    return {"judges": judges, "guards": guards.values(policy.measures)}


def overlaps(policy: Measured, reference: Measured | None, frame: Frame) -> dict[str, Any]:
    """Return ROUGE with intervals, and paired differences to `reference` where it is given; {} without demonstrations.

    Values are means over prompts (and seeds) of the mean over samples, in [0, 1].
    """
    own = _by_prompt(policy.measures)
    if not own:
        return {}
    entry: dict[str, Any] = frame.intervals(own)
    if reference is not None:
        others = _by_prompt(reference.measures)
        entry["difference"] = frame.difference_intervals({name: own[name] - others[name] for name in own})
    return entry


def _by_prompt(measures: Measures) -> dict[str, Array]:
    """Return every overlap as [P, S] means over the samples; NaN for a prompt without a demonstration."""
    return {
        name: array.mean(axis=2) for name, array in measures.rouge.items() if not np.isnan(array).all()
    }  # a prompt's samples have all an overlap or none


def _plain(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: asdict(value) if isinstance(value, Interval) else value for name, value in found.items()}
