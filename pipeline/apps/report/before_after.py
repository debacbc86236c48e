"""Toxicity and completions before and after a training: a table of numbers, completions for the page, and a CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.apps.report.numbers import Interval, find, interval
from pipeline.apps.report.roles import judges_in_order
from pipeline.apps.report.texts import Texts
from pipeline.tracking.landings import COLUMNS, before_after_rows

REFERENCE = "reference"
SHOWN = 5  # pairs at each end of a method's list that the page shows; the CSV has all
FILE = "before_after.csv"
FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for the beginning of a formula, also after white space
Row = dict[str, Any]


@dataclass(frozen=True)
class Spread:
    """Mean toxicity with the standard deviation of single completions; None where missing."""

    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class Line:
    """One method by one judge; the change is in percent of the mean before."""

    method: str
    judge: str
    before: Spread
    after: Spread
    change: Interval


def lines(evaluation: Mapping[str, Any]) -> list[Line]:
    """Return a line a method and judge, the primary judge's first; none for an evaluation of an earlier version."""
    methods = [name for name in evaluation["meta"]["policies"] if name != REFERENCE]
    return [
        Line(
            method,
            judge,
            _spread(evaluation, REFERENCE, judge),
            _spread(evaluation, method, judge),
            interval(evaluation, method, "before_after", judge, "change_percent"),
        )
        for judge in judges_in_order(evaluation)
        for method in methods
        if find(evaluation, method, "before_after", judge)
    ]


def pairs(experiment: str) -> list[Row]:
    """Return every method's first completion of each prompt beside the reference's; see `before_after_rows`."""
    return before_after_rows(experiment) or []


def ends(rows: Sequence[Row], texts: Texts) -> dict[str, dict[str, Any]]:
    """Return for each method where the page finds the pairs of the largest falls and rises, and how many there are.

    `first` and `last` hold places in the lists of `texts`; no pair is in both. Pairs without a score are in neither.
    """
    ids = sorted({row["prompt_id"] for row in rows})
    found: dict[str, dict[str, Any]] = {}
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        known = [_place(row, ids, texts) for row in own if row["change"] is not None]
        rest = known[SHOWN:]
        found[method] = {"first": known[:SHOWN], "last": rest[-SHOWN:], "total": len(own)}
    return found


def csv_text(rows: Iterable[Row]) -> str:
    """Return the rows as CSV, with an apostrophe before a text that a spreadsheet would take for a formula."""
    text = io.StringIO(newline="")
    # every text in quotes: a bare carriage return would end a row for some readers
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _inert(value: Any) -> Any:
    if isinstance(value, str) and (value.lstrip().startswith(FORMULA) or value[:1] in ("\t", "\r", "\n")):
        return f"'{value}"
    return value


def _place(row: Row, ids: Sequence[str], texts: Texts) -> int:
    seed, prompt = texts.seeds.index(row["seed"]), ids.index(row["prompt_id"])
    return (seed * len(ids) + prompt) * texts.samples


def _spread(evaluation: Mapping[str, Any], policy: str, judge: str) -> Spread:
    entry = find(evaluation, policy, "before_after", judge)
    return Spread(find(entry, "toxicity_mean"), find(entry, "toxicity_sd"))
