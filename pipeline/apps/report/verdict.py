"""The verdict and the main table: one row for the reference, every method and every baseline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.apps.report import numbers
from pipeline.apps.report.numbers import Interval, find, interval, label

REFERENCE = "reference"
GUARD = "perplexity_median"


@dataclass(frozen=True)
class Line:
    """One row of the main table; None where a number is missing, `applicable` False where there can be none."""

    name: str
    kind: str  # reference, method or baseline
    toxicity: Interval
    difference: Interval
    p_holm: float | None
    perplexity_change: float | None
    guards_failed: list[str] | None
    beats: dict[str, bool | None]
    outcome: str | None
    reason: str | None
    champion: bool

    @property
    def is_method(self) -> bool:
        """Return whether it was trained."""
        return self.kind == "method"


@dataclass(frozen=True)
class Verdict:
    """What a reader must know who reads no further."""

    champion: str | None
    seed: int | None
    headline: str
    reason: str
    rule: str
    lines: list[Line]


def verdict(evaluation: Mapping[str, Any]) -> Verdict:
    """Return the verdict as the evaluation states it; nothing is decided here."""
    found = evaluation.get("champion") or {}
    name = found.get("policy")
    return Verdict(
        champion=name,
        seed=found.get("seed"),
        headline=_headline(evaluation, name),
        reason=found.get("reason", numbers.MISSING),
        rule=found.get("rule", numbers.MISSING),
        lines=lines(evaluation),
    )


def lines(evaluation: Mapping[str, Any]) -> list[Line]:
    """Return the rows of the main table: reference, methods, baselines."""
    meta = evaluation["meta"]
    champion = find(evaluation, "champion", "policy")
    policies = [_policy(evaluation, name, name == champion) for name in meta["policies"]]
    return policies + [_baseline(evaluation, name) for name in evaluation.get("baselines", {})]


def _headline(evaluation: Mapping[str, Any], champion: str | None) -> str:
    """Return one sentence with the size of the effect."""
    primary = evaluation["meta"]["primary_judge"]
    if champion is None:
        if "champion" not in evaluation:
            return "No verdict: the evaluation on disk holds none"
        return "No champion: no method is less toxic than the reference with every guard passed"
    before = find(evaluation, REFERENCE, "judges", primary, "toxicity_mean", "value")
    after = find(evaluation, champion, "judges", primary, "toxicity_mean", "value")
    share = f", {numbers.percent(after / before - 1, 0, sign=True)}" if before and after is not None else ""
    return (
        f"{label(champion)} lowers mean toxicity from {numbers.number(before)} to {numbers.number(after)}{share}, "
        "with every guard passed"
    )


def _policy(evaluation: Mapping[str, Any], name: str, champion: bool) -> Line:
    entry, is_reference = evaluation.get(name, {}), name == REFERENCE
    judged = find(entry, "judges", evaluation["meta"]["primary_judge"])
    failed = find(entry, "guards_failed")
    return Line(
        name=name,
        kind=REFERENCE if is_reference else "method",
        toxicity=interval(judged, "toxicity_mean"),
        difference=interval(judged, "difference", "toxicity_mean"),
        p_holm=find(evaluation, "comparisons", name, REFERENCE, "p_holm"),
        perplexity_change=None if is_reference else _perplexity_change(evaluation, entry),
        guards_failed=None if is_reference or failed is None else [item for item in failed.split(", ") if item],
        beats={} if is_reference else _beats(evaluation, name),
        outcome=find(entry, "verdict", "outcome"),
        reason=find(entry, "verdict", "reason"),
        champion=champion,
    )


def _baseline(evaluation: Mapping[str, Any], name: str) -> Line:
    entry = evaluation["baselines"][name]
    judged = find(entry, "judges", evaluation["meta"]["primary_judge"])
    return Line(
        name=name,
        kind="baseline",
        toxicity=interval(judged, "toxicity_mean"),
        difference=interval(judged, "difference", "toxicity_mean"),
        p_holm=None,
        perplexity_change=_perplexity_change(evaluation, entry),
        guards_failed=None,
        beats={},
        outcome=None,
        reason=None,
        champion=False,
    )


def _perplexity_change(evaluation: Mapping[str, Any], entry: Mapping[str, Any]) -> float | None:
    """Return the change of median perplexity as a share of the reference's."""
    before, after = find(evaluation, REFERENCE, "guards", GUARD), find(entry, "guards", GUARD)
    return after / before - 1 if before and after is not None else None


def _beats(evaluation: Mapping[str, Any], name: str | None) -> dict[str, bool | None]:
    if name is None:
        return {}
    baselines = evaluation.get("baselines", {})
    return {baseline: find(evaluation, name, "verdict", "beats", baseline) for baseline in baselines}
