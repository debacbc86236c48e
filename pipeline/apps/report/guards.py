"""The guards as a table: what every policy's values moved, how far they may, and which broke."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.apps.report import numbers
from pipeline.apps.report.numbers import find, interval
from pipeline.apps.report.roles import fluency_model
from pipeline.evaluation.metrics import METRICS

MEANING = {name: words for metric in METRICS.values() for name, words in metric.meanings.items()}


@dataclass(frozen=True)
class Check:
    """One policy under one guard."""

    change: str
    ends: str
    passed: bool | None


@dataclass(frozen=True)
class Guard:
    """One guard: its limit in words, the reference's value, and a check a method."""

    name: str
    meaning: str
    limit: str
    reference: str
    checks: list[Check]


def table(evaluation: Mapping[str, Any]) -> list[Guard]:
    """Return every guard of the experiment, methods in the order of the roster."""
    methods = [name for name in evaluation["meta"]["policies"] if name != "reference"]
    guards = find(evaluation, "meta", "guards") or {}
    order = list(MEANING)
    names = sorted(guards, key=lambda name: (order.index(name) if name in order else len(order), name))
    return [
        Guard(
            name=name,
            meaning=_meaning(name).replace("{model}", fluency_model(evaluation)),
            limit=limit(guards[name]),
            reference=numbers.number(find(evaluation, "reference", "guards", name)),
            checks=[_check(evaluation, method, name, guards[name]["change"]) for method in methods],
        )
        for name in names
    ]


def limit(guard: Mapping[str, Any]) -> str:
    """Return the range that a change may not leave, in words."""

    def shown(bound: float) -> str:
        relative = guard["change"] == "relative"
        return numbers.percent(bound, 0, sign=True) if relative else numbers.number(bound, sign=True)

    low, high = guard["min"], guard["max"]
    if low is not None and high is not None:
        return f"{shown(low)} to {shown(high)}"
    return f"at most {shown(high)}" if low is None else f"at least {shown(low)}"


def _check(evaluation: Mapping[str, Any], method: str, name: str, kind: str) -> Check:
    found = find(evaluation, method, "guard_checks", name)
    change, ends = numbers.change(interval(found, "change"), kind)
    return Check(change, ends, find(found, "passed"))


def _meaning(name: str) -> str:
    """Return what a guard watches, in words: a value, or that of a probe's task, as in `hellaswag_agreement`."""
    if name in MEANING:
        return MEANING[name]
    task, _, value = name.rpartition("_")
    return MEANING[value].replace("{task}", task) if "{task}" in MEANING.get(value, "") else numbers.label(name)
