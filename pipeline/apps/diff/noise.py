"""Whether a number changed beyond noise: by the prompts that both sides share, else by both intervals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.apps.diff.protocol import BY_THRESHOLD, Evaluation, is_measured_with, other_judges, same_refusals
from pipeline.apps.diff.snapshot import REMEDY
from pipeline.data.schema import LABELS
from pipeline.evaluation import statistics
from pipeline.evaluation.shape import REFUSAL_RATE
from pipeline.evaluation.statistics import Array, Interval
from pipeline.io import records
from pipeline.io.errors import UserError

PAIRED, INDEPENDENT, UNKNOWN = "paired by prompt", "independent", "no interval"
AGREEMENT = 5e-4  # far below any noise
SEED = 0  # of the bootstrap: the same numbers at every call
COLUMNS = ("policy", "judge", "prompt_id", "seed", "toxicity_mean")
REFUSALS = tuple(REFUSAL_RATE + label for label in LABELS)  # columns that are there where refusals were judged
Place = tuple[str, str]  # policy, and judge or column of refusals
ByPrompt = Mapping[Place, Mapping[tuple[str, str], float]]  # (prompt id, seed) -> toxicity or refusal rate


@dataclass(frozen=True)
class Change:
    """A change with its interval and how that was found; `beyond_noise` is None where it is not known."""

    interval: Interval
    method: str

    @property
    def beyond_noise(self) -> bool | None:
        """Tell whether the interval leaves 0 out."""
        if np.isnan(self.interval.low) or np.isnan(self.interval.high):
            return None
        return self.interval.low > 0 or self.interval.high < 0


def by_prompt(rows: Sequence[Mapping[str, str]], place: str) -> ByPrompt:
    """Arrange the rows of prompts.csv; an empty cell is a missing value. Raises UserError where one is not a number."""
    found: dict[Place, dict[tuple[str, str], float]] = {}
    refusals = [name for name in REFUSALS if rows and name in rows[0]]
    for number, row in enumerate(rows, start=2):  # the header is line 1
        for of, column in [(row["judge"], "toxicity_mean"), *((name, name) for name in refusals)]:
            stated = records.finite(row[column], f"{place}:{number}: {column}", REMEDY)
            value = float("nan") if stated is None else stated
            found.setdefault((row["policy"], of), {})[row["prompt_id"], row["seed"]] = value
    return found


def prompt_ids(found: ByPrompt) -> set[str]:
    """Return the ids of all prompts."""
    return {prompt_id for cells in found.values() for prompt_id, _ in cells}


def check_same(side: str, path: Path, found: ByPrompt, evaluation: Mapping[str, Any]) -> None:
    """Raise UserError where the primary judge's means are not those of the evaluation beside: it is of another run."""
    primary = evaluation["meta"]["primary_judge"]
    for (policy, judge), cells in found.items():
        if judge != primary:
            continue
        stated = evaluation.get(policy, {}).get("judges", {}).get(judge, {}).get("toxicity_mean", {}).get("value")
        values = np.array(list(cells.values()))
        if stated is None or np.isnan(values).all():
            continue
        if abs(float(np.nanmean(values)) - stated) > AGREEMENT:
            raise UserError(
                f"{path}: {policy} by {judge}: the mean is {np.nanmean(values):.6f}, evaluation.json says {stated} in "
                f"{side}; both must be of one run: run `dvc repro` there and commit the two together"
            )


def independent(old: Mapping[str, float | None], new: Mapping[str, float | None]) -> Change:
    """Return new minus old from two intervals of one confidence, taken as independent estimates.

    Zou and Donner (2008, section 2): each end lies as far from the difference as the two ends that make it lie from
    their own estimates, added in squares. Where both judged the same prompts it is as a rule too wide.
    """
    ends = [found.get(end) for found in (old, new) for end in ("value", "low", "high")]
    before, low_before, high_before, after, low_after, high_after = (
        float("nan") if end is None else float(end) for end in ends
    )
    value = after - before
    low = value - sqrt((after - low_after) ** 2 + (high_before - before) ** 2)
    high = value + sqrt((high_after - after) ** 2 + (before - low_before) ** 2)
    return Change(Interval(value, low, high), UNKNOWN if np.isnan(low + high) else INDEPENDENT)


class Pairing:
    """The prompts and seeds that both sides hold, and the bootstrap over them."""

    def __init__(self, old: ByPrompt, new: ByPrompt, meta: Mapping[str, Any]) -> None:
        """Take the number of resamples and the confidence from `meta`, that of the new evaluation."""
        self._sides = (old, new)
        self._confidence = float(meta["confidence"])
        self._resamples = int(meta["resamples"])
        self._drawn: dict[tuple[int, int], statistics.Resampling] = {}

    def change(self, place: Place, minus: Place | None = None) -> Change | None:
        """Return the change of the mean at a place, or of its difference to the place `minus`.

        None where a side does not hold it, or where the two hold other prompts or seeds.
        """
        places = [place, minus] if minus else [place]
        cells = [side.get(where) for where in places for side in self._sides]
        if any(found is None or found.keys() != (cells[0] or {}).keys() for found in cells):
            return None
        old, new, *rest = [_grid(found) for found in cells if found is not None]
        change = new - old
        if rest:
            change = change - (rest[1] - rest[0])
        found = statistics.mean_intervals({"change": change}, self._resampling(change), self._confidence)["change"]
        return Change(found, UNKNOWN if np.isnan(found.low + found.high) else PAIRED)

    def _resampling(self, cells: Array) -> statistics.Resampling:
        prompts, seeds = cells.shape
        if (prompts, seeds) not in self._drawn:
            self._drawn[prompts, seeds] = statistics.draw(prompts, seeds, self._resamples, SEED)
        return self._drawn[prompts, seeds]


def _grid(cells: Mapping[tuple[str, str], float]) -> Array:
    """Return [P, S] values in the order of prompt and seed; a cell that is not there is NaN."""
    prompts, seeds = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    nan = float("nan")
    return np.array([[cells.get((prompt, seed), nan) for seed in seeds] for prompt in prompts], dtype=np.float64)


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
        if name not in REFUSALS and not is_measured_with(name, changed):
            yield _line(policy, f"{name} minus reference", (old[name]["change"], new[name]["change"]), None)
    values = [side.get("guards", {}) for side in (before, after)]
    for name, value in values[1].items():
        is_told = name in values[0] and name not in (*watched, *REFUSALS) and not is_measured_with(name, changed)
        if is_told and not isinstance(value, Mapping):
            yield _line(policy, name, ({"value": values[0][name]}, {"value": value}), None)


def _line(policy: str, what: str, sides: tuple[Estimate, Estimate], paired: Change | None) -> Line:
    old, new = sides
    return Line(policy, what, old["value"], new["value"], paired or independent(old, new))
