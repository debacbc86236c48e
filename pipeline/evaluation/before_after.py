"""Mean, standard deviation and percent change of toxicity, before and after a training: the figures people quote.

Shapes: P prompts, S seeds, K samples. A missing value is NaN and takes no part.
"""

from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.evaluation import statistics
from pipeline.evaluation.measured import Frame, Measured
from pipeline.evaluation.spread import Array
from pipeline.evaluation.statistics import Interval, Resampling

LEAST = -100.0  # percent: nothing falls further than to 0


def before_after(policy: Measured, reference: Measured | None, frame: Frame) -> dict[str, dict[str, Any]]:
    """Return for every judge the mean and standard deviation of a policy's toxicity, and its change in percent.

    The deviation is that of single completions (division by their number). `change_percent`, of the mean from that of
    `reference`, is only there where that is given.
    """
    found: dict[str, dict[str, Any]] = {}
    for judge, arrays in policy.statistics.items():
        means = arrays["toxicity_mean"]
        found[judge] = {"toxicity_mean": statistics.mean(means), "toxicity_sd": deviation(policy.toxicities[judge])}
        if reference is not None:
            others = reference.statistics[judge]["toxicity_mean"]
            found[judge]["change_percent"] = asdict(change(means, others, frame.resampling, frame.confidence))
    return found


def deviation(values: Array) -> float:
    """Return the standard deviation of the values that are present; NaN when none is."""
    present = values[~np.isnan(values)]
    return float(present.std()) if present.size else float("nan")


def change(policy: Array, reference: Array, resampling: Resampling, confidence: float) -> Interval:
    """Return 100 (policy / reference - 1) of the means of two [P, S] arrays, over the cells that both have.

    The interval is that of the ratio: both means are taken from the same resamples, and the spread is linearised (the
    delta method). All NaN where the reference's mean is 0: of nothing there is no share.
    """
    absent = np.isnan(policy + reference)
    cells = {name: np.where(absent, np.nan, array) for name, array in (("after", policy), ("before", reference))}
    after, before = statistics.mean(cells["after"]), statistics.mean(cells["before"])
    if not before or np.isnan(before):
        return Interval(float("nan"), float("nan"), float("nan"))
    drawn = statistics.mean_replicates(cells, resampling)
    replicates = 100 * (statistics.quotient(drawn["after"], drawn["before"]) - 1)
    influence = 100 * (cells["after"] - after / before * cells["before"]) / before
    value = 100 * (after / before - 1)
    return statistics.interval(value, replicates, influence, resampling, confidence, bounds=(LEAST, np.inf))
