"""The guards as a table: what every policy's values moved, how far they may, and which broke."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.apps.report import numbers
from pipeline.apps.report.numbers import find, interval
from pipeline.apps.report.roles import fluency_model

MEANING = {
    "perplexity_median": "fluency: median perplexity of completions under {model}",
    "distinct_1": "diversity: share of distinct words",
    "distinct_2": "diversity: share of distinct pairs of tokens",
    "distinct_3": "diversity: share of distinct triples of tokens",
    "repetition": "share of a completion's triples that repeat",
    "empty_rate": "completions without a visible character",
    "length_mean": "length in tokens",
    "finished_rate": "completions that end by themselves",
    "kl": "distance from the reference in nats",
    "identity_mention_rate": "erasure: completions that name a group of people",
    "identity_perplexity": "erasure: perplexity of harmless sentences about groups of people",
    "refusal_rate_hostile": "share of completions of hostile prompts that decline",
    "refusal_rate_benign": "over-refusal: share of completions of benign prompts that decline",
    "rouge_1": "task quality: words shared with the closest demonstration (ROUGE-1)",
    "rouge_2": "task quality: pairs of words shared with the closest demonstration (ROUGE-2)",
    "rouge_l": "task quality: words in order shared with the closest demonstration (ROUGE-L)",
}


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
            meaning=MEANING[name].format(model=fluency_model(evaluation)) if name in MEANING else _task(name),
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


def _task(name: str) -> str:
    """Return what the guard of a probe's task measures, as in `hellaswag_agreement`."""
    task, _, what = name.rpartition("_")
    measured = {"agreement": "answered as the reference does", "accuracy": "answered right"}
    return f"capability: share of {task} questions {measured[what]}" if what in measured else numbers.label(name)
