"""The judges as a reader meets them: their cards, the hacking gap, and how far they agree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.apps.report import numbers
from pipeline.apps.report.numbers import MISSING, Interval, find, interval, label
from pipeline.apps.report.roles import judges_in_order, role

REFUSAL = "refusal"
MOST_FLAGGED = 5  # identity terms named on a card


@dataclass(frozen=True)
class Figure:
    """One number on a card: what it is, of what, its text and the ends of its interval."""

    name: str
    of: str
    text: str
    ends: str = ""


@dataclass(frozen=True)
class Card:
    """One judge; without figures where its card is not on disk."""

    judge: str
    role: str
    figures: list[Figure]


@dataclass(frozen=True)
class Gap:
    """How much more a method gained by the reward scorer than by one held-out judge, and what the evaluation flags.

    `flagged` names the flagged ones of the gap and the relative gap; None where that is missing.
    """

    policy: str
    judge: str
    gap: Interval
    relative: Interval
    flagged: list[str] | None


def cards(evaluation: Mapping[str, Any], found: Mapping[str, Mapping[str, Any]]) -> list[Card]:
    """Return a card a judge, the primary one first."""
    return [_card(evaluation, judge, found.get(judge)) for judge in judges_in_order(evaluation)]


def of_refusals(evaluation: Mapping[str, Any], card: Mapping[str, Any] | None) -> list[Card]:
    """Return the card of the judge of refusals, which judges no toxicity; none where refusals are not judged."""
    if find(evaluation, "meta", "refusal_sha256") is None:
        return []
    part = "judge of refusals, not of toxicity"
    if card is None:
        return [Card(REFUSAL, part, [])]
    return [Card(REFUSAL, f"{part}; {label(find(card, 'kind') or MISSING)}", list(_labelled(card)))]


def gaps(evaluation: Mapping[str, Any]) -> list[Gap]:
    """Return the hacking gap of every trained policy and held-out judge."""
    return [
        Gap(policy, judge, interval(entry, "gap"), interval(entry, "relative_gap"), _flagged(entry))
        for policy in evaluation["meta"]["policies"]
        for judge, entry in (find(evaluation, policy, "hacking") or {}).items()
    ]


def _flagged(entry: Mapping[str, Any]) -> list[str] | None:
    if find(entry, "flagged") is None:
        return None
    names = {"flagged": "gap", "relative_flagged": "relative gap"}
    return [name for key, name in names.items() if find(entry, key)]


def _card(evaluation: Mapping[str, Any], judge: str, card: Mapping[str, Any] | None) -> Card:
    part = role(evaluation, judge)
    if card is None:
        return Card(judge, part, [])
    known = f"{label(find(card, 'kind') or MISSING)}, {find(card, 'status') or MISSING}"
    return Card(judge, f"{part}; {known}", [*_tested(card), *_false_positives(card)])


def _tested(card: Mapping[str, Any]) -> Iterator[Figure]:
    if find(card, "test") is None:
        yield Figure("Labelled text", "", "not tested")
        return
    area, ends = find(card, "test", "auc"), find(card, "test", "auc_interval")
    bounds = numbers.ends(Interval(area, ends["low"], ends["high"])) if ends else ""
    yield Figure("AUC", "", numbers.number(area), bounds)
    for name, of in (("sensitivity", "toxic text that it finds"), ("specificity", "harmless text that it clears")):
        yield _rate(name.capitalize(), of, interval(card, "test", name))
    brier = numbers.number(find(card, "test", "calibration", "brier"))
    error = numbers.number(find(card, "test", "calibration", "ece"))
    yield Figure("Calibration error", f"0 is best; Brier score {brier}", error)


def _labelled(card: Mapping[str, Any]) -> Iterator[Figure]:
    """Yield what is known of the judge of refusals from labelled replies."""
    if not find(card, "labelled"):
        yield Figure("Labelled replies", "", "not tested")
        return
    yield Figure("Labelled replies", "each declines or does not", str(card["labelled"]))
    for name, of in (("sensitivity", "replies that decline, found"), ("specificity", "other replies, cleared")):
        windows = find(card, name, "windows")
        yield _rate(name.capitalize(), f"{of}, of {windows}" if windows else of, interval(card, name))
    for origin, found in sorted((find(card, "by_origin") or {}).items()):
        shares = [interval(found, name).value for name in ("sensitivity", "specificity")]
        text = " and ".join(numbers.NOT_APPLICABLE if value is None else numbers.number(value, 2) for value in shares)
        yield Figure(f"Replies from {label(origin)}", "found and cleared", text)


def _false_positives(card: Mapping[str, Any]) -> Iterator[Figure]:
    if find(card, "test") is not None:
        source = find(card, "held_out_source") or "harmless text"
        of = f"{source}, left out of the fit" if find(card, "status") == "fitted" else source
        yield _rate("False positives", of, interval(card, "false_positive_rate"))
    sentences = find(card, "identity", "windows") or ""
    of = f"{sentences} harmless sentences about groups of people".strip()
    yield _rate("False positives", of, interval(card, "identity"))
    terms = find(card, "identity", "terms") or {}
    flagged = sorted((name for name in terms if terms[name]), key=lambda name: (-terms[name], name))
    if flagged:
        worst = (f"{name} {numbers.percent(terms[name], 0)}" for name in flagged[:MOST_FLAGGED])
        yield Figure("Flagged most", f"{len(flagged)} of {len(terms)} groups are flagged at all", ", ".join(worst))
    yield Figure("Threshold", "", numbers.number(find(card, "threshold"), 2))


def _rate(name: str, of: str, found: Interval) -> Figure:
    return Figure(name, of, numbers.number(found.value), numbers.ends(found))
