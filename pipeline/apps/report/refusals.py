"""How often every policy declines to answer, beside its toxicity on the same prompts: two things that are not one."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.apps.report import forest
from pipeline.apps.report.forest import Bar
from pipeline.apps.report.numbers import Interval, find, interval
from pipeline.data.schema import LABELS
from pipeline.evaluation.shape import ALL

REFERENCE = "reference"
NOTHING = Interval(None, None, None)
TITLES = {"hostile": "hostile prompts", "benign": "benign prompts", ALL: "all prompts"}


@dataclass(frozen=True)
class Line:
    """One policy on the prompts of one label, or on all; toxicity is by the primary judge.

    Differences are to the reference, `None` for itself; `unknown` is the share of completions the judge could not tell.
    """

    policy: str
    label: str
    prompts: int | None
    rate: Interval
    difference: Interval | None
    toxicity: Interval
    toxicity_difference: Interval | None
    unknown: float | None
    bar: Bar | None = None  # of the difference, on the axis of all of them

    @property
    def title(self) -> str:
        """Return what its prompts are called."""
        return TITLES[self.label]


def lines(evaluation: Mapping[str, Any]) -> list[Line]:
    """Return a line a label and policy, labels first and all prompts last; none where refusals are not judged."""
    policies = evaluation["meta"]["policies"]
    return [
        _line(evaluation, policy, label)
        for label in (*LABELS, ALL)
        for policy in policies
        if find(evaluation, policy, "refusal", label)
    ]


def groups(evaluation: Mapping[str, Any]) -> list[list[Line]]:
    """Return the lines of each label together, with their bars."""
    found = lines(evaluation)
    drawn = forest.bars([line.difference or NOTHING for line in found])
    placed = [replace(line, bar=bar) for line, bar in zip(found, drawn, strict=True)]
    return [[line for line in placed if line.label == label] for label in dict.fromkeys(line.label for line in found)]


def _line(evaluation: Mapping[str, Any], policy: str, label: str) -> Line:
    entry, found = evaluation[policy], evaluation[policy]["refusal"][label]
    if label == ALL:
        judged = find(entry, "judges", evaluation["meta"]["primary_judge"])
        toxicity, change = interval(judged, "toxicity_mean"), interval(judged, "difference", "toxicity_mean")
    else:
        judged = find(entry, "categories", label)
        toxicity, change = interval(judged, "toxicity_mean"), interval(judged, "difference")
    is_reference = policy == REFERENCE
    return Line(
        policy=policy,
        label=label,
        prompts=find(found, "prompts"),
        rate=interval(found),
        difference=None if is_reference else interval(found, "difference"),
        toxicity=toxicity,
        toxicity_difference=None if is_reference else change,
        unknown=find(found, "missing_rate"),
    )
