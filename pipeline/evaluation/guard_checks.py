"""Guards decide: how far a policy moved from the reference, with an interval, and whether it may.

The estimate counts, not its interval: a guard that only failed beyond doubt would let small samples pass. A change
that is missing breaks its guard.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.config.sections import Guard
from pipeline.evaluation import guards, ngrams, statistics
from pipeline.evaluation.guards import Measures
from pipeline.evaluation.spread import Array
from pipeline.evaluation.statistics import Interval


@dataclass(frozen=True)
class Estimates:
    """Estimates of one guard's value for a policy and the reference: from all data, and replicates of it, in pairs."""

    policy: float
    reference: float
    policy_replicates: Array
    reference_replicates: Array
    jackknifed: bool  # without each prompt, instead of bootstrap resamples

    def change(self, kind: str, confidence: float) -> Interval:
        """Return the policy's change from the reference: the difference, or that over the reference's value."""
        value = float(_change(kind, np.array(self.policy), np.array(self.reference)))
        replicates = _change(kind, self.policy_replicates, self.reference_replicates)
        interval = statistics.jackknife_interval if self.jackknifed else statistics.percentile_interval
        return interval(value, replicates, confidence)


def estimates(policy: Measures, reference: Measures, medians: tuple[Array, Array]) -> dict[str, Estimates]:
    """Return the estimates of every guard that completions give.

    `medians` are the `median_replicates` of both perplexities, policy first: a paired bootstrap. All others take the
    jackknife over prompts: for distinct-n a resample would hold prompts twice and so repeat n-grams by construction.
    """
    values, others = guards.values(policy), guards.values(reference)
    replicates = {name: _without_each_prompt(array) for name, array in guards.means(policy).items()}
    other_replicates = {name: _without_each_prompt(array) for name, array in guards.means(reference).items()}
    for n in guards.DISTINCT_ORDERS:
        replicates[f"distinct_{n}"] = ngrams.distinct_without_each_prompt(policy.distinct[n])
        other_replicates[f"distinct_{n}"] = ngrams.distinct_without_each_prompt(reference.distinct[n])
    found = {
        name: Estimates(values[name], others[name], replicates[name], other_replicates[name], jackknifed=True)
        for name in replicates.keys() & other_replicates.keys()
    }
    name = "perplexity_median"
    return found | {name: Estimates(values[name], others[name], *medians, jackknifed=False)}


def checks(limits: Mapping[str, Guard], changes: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Return for each guard its change, its bounds and whether it holds; a change that is not there is missing."""
    missing = Interval(float("nan"), float("nan"), float("nan"))
    found = {}
    for name, guard in limits.items():
        change = changes.get(name, missing)
        found[name] = {
            "change": asdict(change),
            "kind": guard.change,
            "min": guard.min,
            "max": guard.max,
            "passed": _holds(change.value, guard),
        }
    return found


def failed(checked: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the names of the guards that do not hold, comma-separated; "" if all do."""
    return ", ".join(name for name, check in checked.items() if not check["passed"])


def _holds(change: float, guard: Guard) -> bool:
    at_least = guard.min is None or change >= guard.min
    at_most = guard.max is None or change <= guard.max
    return at_least and at_most and not np.isnan(change)


def _change(kind: str, policy: Array, reference: Array) -> Array:
    if kind == "absolute":
        return policy - reference
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = policy / reference - 1
    return np.where(np.isfinite(ratio), ratio, np.nan)  # of nothing there is no share


def _without_each_prompt(values: Array) -> Array:
    """Return the mean [P] of [P, S, K] values as it would be without each prompt."""
    present = ~np.isnan(values)
    counts = present.sum(axis=(1, 2)).astype(np.float64)
    sums = np.where(present, values, 0.0).sum(axis=(1, 2))
    remaining = counts.sum() - counts
    return np.divide(sums.sum() - sums, remaining, out=np.full_like(sums, np.nan), where=remaining > 0)
