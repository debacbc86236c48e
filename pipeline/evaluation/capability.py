"""What a policy still knows, and how it takes harmless sentences about groups of people: probes to numbers.

Shapes: I items (questions or sentences), S seeds, C choices. Where an item has fewer choices, the rest is NaN.
"""

from collections.abc import Mapping

import numpy as np

from pipeline.evaluation import statistics
from pipeline.evaluation.probes import Probed, ProbeGrid, read_probes
from pipeline.evaluation.spread import Array
from pipeline.evaluation.statistics import Interval, Resampling
from pipeline.io.errors import UserError
from pipeline.scorers.identity import IDENTITY

__all__ = ["Probed", "cells", "changes", "read_probes", "values"]

REFERENCE = "reference"
PERPLEXITY = "identity_perplexity"


def cells(probed: Probed, policy: str) -> dict[str, Array]:
    """Return for each quantity what is known of each item and seed, [I, S]; its value is their mean.

    `<task>_agreement`: 1 where the policy chooses what the reference of that seed chooses. `<task>_accuracy`: 1 where
    it chooses what is right, for tasks that say so. `identity_perplexity`: the negative log-likelihood a token; the
    value is the exponential of its mean.
    """
    found: dict[str, Array] = {}
    for name, grid in probed.grids.items():
        if name == IDENTITY:
            found[PERPLEXITY] = -grid.logprobs[policy][:, :, 0] / grid.tokens[:, :1]
            continue
        chosen = _chosen(grid, policy)
        found[f"{name}_agreement"] = (chosen == _chosen(grid, REFERENCE)).astype(np.float64)
        if not np.isnan(grid.labels).all():
            found[f"{name}_accuracy"] = (chosen == grid.labels[:, None]).astype(np.float64)
    return found


def values(probed: Probed, policy: str) -> dict[str, float]:
    """Return the value of every quantity, pooled over seeds.

    `identity_perplexity` is the exponential of the mean, over sentences, of the negative log-likelihood a token. A
    median would not move when a policy is estranged from a minority of the terms, which is what it watches for.
    """
    return {name: _value(name, array) for name, array in cells(probed, policy).items()}


def changes(
    probed: Probed, policy: str, kinds: Mapping[str, str], resamples: int, confidence: float, seed: int
) -> dict[str, Interval]:
    """Return the change from the reference of every quantity named in `kinds` that there is.

    A share changes by a difference (absolute), a perplexity by a ratio less 1 (relative): UserError names a guard that
    wants it otherwise. Items are resampled with replacement and, where there are several seeds, seeds as well; the same
    for policy and reference, so that the interval is that of pairs. The sentences are a sample of what can be said of
    groups, but the terms are taken as given.
    """
    others = cells(probed, REFERENCE)
    found = {}
    for name, own in cells(probed, policy).items():
        if name not in kinds:
            continue
        expected = "relative" if name == PERPLEXITY else "absolute"
        if kinds[name] != expected:
            raise UserError(f"evaluate.guards.{name}.change: expected {expected}, got {kinds[name]}; correct it")
        resampling = statistics.draw(len(own), own.shape[1], resamples, seed)
        found[name] = _change(name, own - others[name], resampling, confidence)
    return found


def _chosen(grid: ProbeGrid, policy: str) -> Array:
    """Return the place [I, S] of the choice of the highest log-likelihood a byte, the first of equals.

    The acc_norm of lm-evaluation-harness divides by characters, which are bytes in ASCII.
    """
    chosen: Array = np.nanargmax(grid.logprobs[policy] / grid.bytes[:, None, :], axis=2).astype(np.float64)
    return chosen


def _value(name: str, array: Array) -> float:
    mean = statistics.mean(array)
    return _exponential(mean) if name == PERPLEXITY else mean


def _change(name: str, differences: Array, resampling: Resampling, confidence: float) -> Interval:
    bounds = (-1.0, 0.0 if name.endswith("_agreement") else 1.0)  # nobody agrees more than the reference with itself
    if name != PERPLEXITY:
        return statistics.mean_intervals({name: differences}, resampling, confidence, bounds)[name]
    logs = statistics.mean_intervals({name: differences}, resampling, confidence)[name]
    return Interval(*(_exponential(end) - 1 for end in (logs.value, logs.low, logs.high)))


def _exponential(value: float) -> float:
    with np.errstate(over="ignore"):  # infinite is written as missing and fails the guard
        return float(np.exp(value))
