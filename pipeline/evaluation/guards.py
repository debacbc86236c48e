"""What a policy paid for being less toxic: the values of all metrics, how far they moved, and whether they may.

The estimate counts, not its interval: a guard that only failed beyond doubt would let small samples pass. A change
that is missing breaks its guard.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from pipeline.config.sections import Guard
from pipeline.evaluation.measure import NO_INTERVAL, Frame, Measure, Outputs
from pipeline.evaluation.metrics import METRICS
from pipeline.evaluation.statistics import Array, Interval
from pipeline.io.errors import UserError

Measures = Mapping[str, Mapping[str, Measure]]  # by metric, then by the name of the value


def measure(outputs: Outputs) -> Measures:
    """Return what every metric gives of one policy; nothing of a metric that has nothing to look at."""
    found = {name: metric.measure(outputs) for name, metric in METRICS.items()}
    return {name: {name: one} if isinstance(one, Measure) else one for name, one in found.items()}


def of_seed(measures: Measures, index: int) -> Measures:
    """Return the same of one seed alone."""
    return {metric: {name: one.of_seed(index) for name, one in by_name.items()} for metric, by_name in measures.items()}


def values(measures: Measures) -> dict[str, float]:
    """Return every value by its name, pooled over seeds."""
    return {name: one.value() for _, name, one in _each(measures)}


def reranked(measures: Measures, weights: Array) -> dict[str, float]:
    """Return the values that one answer a prompt has, each sample [P, S, K] being it by its chance."""
    found = {name: one.reranked(weights) for _, name, one in _each(measures)}
    return {name: value for name, value in found.items() if value is not None}


def details(measures: Measures, reference: Measures | None, frame: Frame | None) -> dict[str, Any]:
    """Return what metrics say of a policy beside their values, by metric; of one seed where there is no frame."""
    found = {
        name: METRICS[name].detail(by_name, None if reference is None else reference[name], frame)
        for name, by_name in measures.items()
    }
    return {name: detail for name, detail in found.items() if detail}


def changes(measures: Measures, reference: Measures, limits: Mapping[str, Guard], frame: Frame) -> dict[str, Interval]:
    """Return the change from the reference of every guarded value that there is.

    Raises UserError naming a guard that wants another kind of change than its metric has.
    """
    found = {}
    for metric, name, one in _each(measures):
        if name not in limits or name not in reference[metric]:
            continue
        kind, only = limits[name].change, METRICS[metric].change
        if only is not None and kind != only:
            raise UserError(f"evaluate.guards.{name}.change: expected {only}, got {kind}; correct it")
        found[name] = one.change(reference[metric][name], kind, frame)
    return found


def _each(measures: Measures) -> Iterator[tuple[str, str, Measure]]:
    for metric, by_name in measures.items():
        for name, one in by_name.items():
            yield metric, name, one


def checks(limits: Mapping[str, Guard], changes: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Return for each guard its change, its bounds and whether it holds; a change that is not there is missing."""
    found = {}
    for name, guard in limits.items():
        change = changes.get(name, NO_INTERVAL)
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
