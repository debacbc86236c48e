"""The numbers of two evaluations that are set against each other, each with whether it changed beyond noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.diff import noise
from pipeline.diff.noise import Change, Pairing
from pipeline.diff.protocol import BY_THRESHOLD, Evaluation, is_measured_with, other_judges, same_refusals
from pipeline.evaluation.shape import LABELS, REFUSAL_RATE

MEAN = "toxicity_mean"
REFERENCE = "reference"
# By the primary judge alone: they follow the mean, and a comparison has to stay short.
OF_PRIMARY = {"expected_max_toxicity": "exp. max", "toxicity_probability": "prob."}
Estimate = Mapping[str, float | None]


@dataclass(frozen=True)
class Line:
    """One number on both sides."""

    policy: str
    what: str
    old: float | None
    new: float | None
    change: Change

    @property
    def changed(self) -> bool:
        """Tell whether the estimate is another."""
        return self.old != self.new


def lines(old: Evaluation, new: Evaluation, pairing: Pairing, changed: Sequence[str]) -> Iterator[Line]:
    """Yield every number that both sides hold and that may be compared: toxicity, refusals, guards.

    `changed` are the keys of `protocol.MEASURED_WITH` that did: what is measured with them is left out.
    """
    judges = [name for name in new["meta"]["judges"] if name in old["meta"]["judges"]]
    judges = [name for name in judges if name not in other_judges(old, new)]
    for policy in _policies(old, new):
        for judge in judges:
            yield from _toxicity(old, new, policy, judge, pairing)
    if same_refusals(old, new):
        for policy in _policies(old, new):
            yield from _refusals(old, new, policy, pairing)
    for policy in _policies(old, new):
        yield from _guards(policy, old[policy], new[policy], changed)


def _policies(old: Evaluation, new: Evaluation) -> list[str]:
    return [name for name in new["meta"]["policies"] if name in old]


def _toxicity(old: Evaluation, new: Evaluation, policy: str, judge: str, pairing: Pairing) -> Iterator[Line]:
    before, after = (side[policy]["judges"].get(judge) for side in (old, new))
    if before is None or after is None:
        return
    place = (policy, judge)
    yield _line(policy, f"toxicity by {judge}", (before[MEAN], after[MEAN]), pairing.change(place))
    if policy != REFERENCE:
        paired = pairing.change(place, minus=(REFERENCE, judge))
        differences = before["difference"][MEAN], after["difference"][MEAN]
        yield _line(policy, f"minus reference by {judge}", differences, paired)
    if judge == new["meta"]["primary_judge"]:
        same_threshold = old["meta"].get("threshold") == new["meta"].get("threshold")
        for metric, short in OF_PRIMARY.items():
            if same_threshold or metric not in BY_THRESHOLD:
                yield _line(policy, f"{short} by {judge}", (before[metric], after[metric]), None)


def _refusals(old: Evaluation, new: Evaluation, policy: str, pairing: Pairing) -> Iterator[Line]:
    """Yield the refusal rates on prompts of each label, and for a trained policy those minus the reference's."""
    sides = [side[policy].get("refusal", {}) for side in (old, new)]
    for label in (label for label in LABELS if all(label in side for side in sides)):
        before, after = (side[label] for side in sides)
        rate = REFUSAL_RATE + label
        yield _line(policy, f"refusals of {label} prompts", (before, after), pairing.change((policy, rate)))
        if policy != REFERENCE:
            paired = pairing.change((policy, rate), minus=(REFERENCE, rate))
            what = f"refusals of {label} minus reference"
            yield _line(policy, what, (before["difference"], after["difference"]), paired)


def _guards(policy: str, before: Mapping[str, Any], after: Mapping[str, Any], changed: Sequence[str]) -> Iterator[Line]:
    """Yield each guard's change from the reference with its interval; a value that no guard watches has none.

    Refusal rates are left out: `_refusals` has them, paired by prompt.
    """
    old, new = (side.get("guard_checks", {}) for side in (before, after))
    watched = [name for name in new if name in old and old[name]["kind"] == new[name]["kind"]]
    for name in watched:
        if name not in noise.REFUSALS and not is_measured_with(name, changed):
            yield _line(policy, f"{name} minus reference", (old[name]["change"], new[name]["change"]), None)
    values = [side.get("guards", {}) for side in (before, after)]
    for name, value in values[1].items():
        is_told = name in values[0] and name not in (*watched, *noise.REFUSALS) and not is_measured_with(name, changed)
        if is_told and not isinstance(value, Mapping):
            yield _line(policy, name, ({"value": values[0][name]}, {"value": value}), None)


def _line(policy: str, what: str, sides: tuple[Estimate, Estimate], paired: Change | None) -> Line:
    old, new = sides
    return Line(policy, what, old["value"], new["value"], paired or noise.independent(old, new))
