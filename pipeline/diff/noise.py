"""Whether a number changed beyond noise: by the prompts that both sides share, else by both intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import records
from pipeline.diff.snapshot import REMEDY
from pipeline.errors import UserError
from pipeline.evaluation import statistics
from pipeline.evaluation.shape import LABELS, REFUSAL_RATE
from pipeline.evaluation.statistics import Array, Interval

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
    """Arrange the rows of prompts.csv; an empty cell is a missing value. Raises UserError where one is no number."""
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
