"""The comparisons of an evaluation as a list: every pair once, by family."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.apps.report.numbers import MINUS, Interval, find, interval, label

REFERENCE = "reference"
FAMILIES = ("against the reference", "between methods", "against baselines")


@dataclass(frozen=True)
class Pair:
    """The toxicity of `first` minus that of `second`, by the primary judge; p-values and the detectable size."""

    first: str
    second: str
    family: str
    difference: Interval
    p: float | None
    p_holm: float | None
    smallest_detectable: float | None

    @property
    def label(self) -> str:
        """Return the pair as a subtraction."""
        return f"{label(self.first)} {MINUS} {label(self.second)}"


def pairs(evaluation: Mapping[str, Any]) -> list[Pair]:
    """Return every pair once, ordered by family and then by roster; a pair of methods that stands both ways is one."""
    return sorted(_once(evaluation), key=lambda pair: FAMILIES.index(pair.family))


def _once(evaluation: Mapping[str, Any]) -> Iterator[Pair]:
    comparisons = evaluation.get("comparisons", {})
    policies = evaluation["meta"]["policies"]
    seen: set[frozenset[str]] = set()
    for first in (name for name in policies if name in comparisons):
        others = comparisons[first]
        for second in sorted(others, key=lambda name: policies.index(name) if name in policies else len(policies)):
            if frozenset((first, second)) not in seen:
                seen.add(frozenset((first, second)))
                yield _pair(first, second, policies, others[second])


def _pair(first: str, second: str, policies: list[str], found: Mapping[str, Any]) -> Pair:
    family = FAMILIES[0] if second == REFERENCE else FAMILIES[1] if second in policies else FAMILIES[2]
    figures = {name: find(found, name) for name in ("p", "p_holm", "smallest_detectable")}
    return Pair(first, second, family, interval(found, "difference"), **figures)
