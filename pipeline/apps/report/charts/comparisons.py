"""Which differences are real: every method against the reference, the other methods and the baselines."""

from collections.abc import Mapping
from typing import Any

from pipeline.apps.report.charts.panel import Figure, Panel, Row, interval_chart
from pipeline.apps.report.differences import FAMILIES, Pair, pairs
from pipeline.apps.report.numbers import label


def between(evaluation: Mapping[str, Any]) -> Figure:
    """Return one panel a family of comparisons, all on one axis: first minus second, with intervals."""
    found = {family: [pair for pair in pairs(evaluation) if pair.family == family] for family in FAMILIES}
    names = [name for name in evaluation["meta"]["policies"] if name != "reference"]
    domain = _domain([pair for family in found.values() for pair in family])
    panels = [
        Panel(
            f"comparison-{FAMILIES.index(family)}",
            family,
            f"Differences in mean toxicity {family}, first minus second, with intervals and a line at zero",
            interval_chart([_row(pair) for pair in members], names, "difference in toxicity", at=0, domain=domain),
        )
        for family, members in found.items()
        if members
    ]
    caption = (
        "First minus second, paired by prompt: left of zero the first is less toxic."
        if panels
        else "Not in this evaluation: comparisons between methods are missing."
    )
    return Figure("comparisons", caption, names, panels)


def _row(pair: Pair) -> Row:
    missing = "" if pair.difference.value is not None else " (missing)"
    return {"name": label(pair.first), "label": pair.label + missing, **vars(pair.difference)}


def _domain(compared: list[Pair]) -> list[float]:
    ends = [end for pair in compared for end in vars(pair.difference).values() if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    margin = 0.06 * (high - low) or 0.01
    return [low - margin, high + margin]
