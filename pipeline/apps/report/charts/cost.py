"""What a lower toxicity costs in fluency: the Pareto chart, with the limit of the perplexity guard."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from pipeline.apps.report.charts.panel import Chart, Figure, Panel, Row, chart, color, compared, line, shape
from pipeline.apps.report.numbers import find, interval, label
from pipeline.apps.report.roles import fluency_model

GUARD = "perplexity_median"


def pareto(evaluation: Mapping[str, Any]) -> Figure:
    """Return toxicity against perplexity: both with intervals where there are, the guard's limit, and the front."""
    primary = evaluation["meta"]["primary_judge"]
    reference = find(evaluation, "reference", "guards", GUARD)
    points = [
        point
        for name, entry in compared(evaluation).items()
        if (point := _point(name, entry, primary, reference)) is not None
    ]
    names = list(compared(evaluation))
    if not points:
        return Figure("pareto", "Not in this evaluation: no policy has both toxicity and perplexity.", names)
    title = f"Toxicity by {primary} against perplexity"
    words = "Mean toxicity against median perplexity of every policy and baseline; lower left is better"
    limits = _limits(evaluation, reference)
    caption = (
        "Lower left is better: less toxic, no less fluent. The dotted line joins what nothing else beats on both. "
        + ("Beyond the dashed line the perplexity guard fails. " if limits else "There is no perplexity guard. ")
        + f"Perplexity is the median over completions under {fluency_model(evaluation)}."
    )
    axis = f"median perplexity under {fluency_model(evaluation)}"
    return Figure("pareto", caption, names, [Panel("tradeoff", title, words, _chart(points, names, limits, axis))])


def front(points: list[Row]) -> list[Row]:
    """Return the points that no other beats in both toxicity and perplexity, by rising perplexity."""
    found: list[Row] = []
    for point in sorted(points, key=lambda item: (item["perplexity"], item["value"])):
        if not found or point["value"] < found[-1]["value"]:
            found.append(point)
    return found


def _point(name: str, entry: Mapping[str, Any], judge: str, reference: float | None) -> Row | None:
    toxicity = interval(entry, "judges", judge, "toxicity_mean")
    perplexity = find(entry, "guards", GUARD)
    if toxicity.value is None or perplexity is None:
        return None
    change = interval(entry, "guard_checks", GUARD, "change")
    factors = find(entry, "guard_checks", GUARD, "kind") == "relative"
    known = change.complete and reference is not None
    sides = {
        f"perplexity_{end}": _moved(reference, getattr(change, end), factors) if known else None
        for end in ("low", "high")
    }
    return {"name": label(name), **vars(toxicity), "perplexity": perplexity, **sides}


def _moved(reference: float | None, change: float, factors: bool) -> float | None:
    if reference is None:
        return None
    return reference * (1 + change) if factors else reference + change


def _limits(evaluation: Mapping[str, Any], reference: float | None) -> dict[str, float]:
    guard = find(evaluation, "meta", "guards", GUARD)
    if guard is None or reference is None:
        return {}
    factors = guard["change"] == "relative"
    bounds = {end: guard[end] for end in ("min", "max") if guard[end] is not None}
    return {end: moved for end, bound in bounds.items() if (moved := _moved(reference, bound, factors)) is not None}


def _chart(points: list[Row], names: list[str], limits: Mapping[str, float], axis: str) -> Chart:
    scale = alt.Scale(zero=False, nice=True, padding=24)
    x = alt.X("perplexity:Q", title=axis, scale=scale)
    y = alt.Y("value:Q", title="mean toxicity", scale=alt.Scale(zero=False, nice=True, padding=16))
    base = chart(points).encode(x=x, y=y)
    spoken = ["name:N", *(alt.Tooltip(f"{key}:Q", format=".3f") for key in ("value", "low", "high", "perplexity"))]
    limited = [_beyond(end, at) for end, at in limits.items()] + [line(at, "x", "limit") for at in limits.values()]
    marks = [
        chart(front(points)).mark_line(style="front", interpolate="step-after").encode(x=x, y=y),
        base.mark_rule(strokeWidth=1.5).encode(
            y=alt.Y("low:Q", title="mean toxicity"), y2="high:Q", color=color(names)
        ),
        *_spreads(points, y, names),
        base.mark_point(filled=True, size=90, opacity=1).encode(color=color(names), shape=shape(names), tooltip=spoken),
        base.mark_text(align="left", dx=8, dy=-9, style="name").encode(text="name:N"),
    ]
    return alt.layer(*limited, *marks).properties(height=320)


def _spreads(points: list[Row], y: alt.Y, names: list[str]) -> list[alt.Chart]:
    """Return the intervals of perplexity; no layer where there are none, since Vega warns of one without data."""
    known = [item for item in points if item["perplexity_low"] is not None]
    sides = {"x": "perplexity_low:Q", "x2": "perplexity_high:Q"}
    return [chart(known).mark_rule(strokeWidth=1.5).encode(**sides, y=y, color=color(names))] if known else []


def _beyond(end: str, at: float) -> alt.Chart:
    """Return the shade over what a guard forbids."""
    side = alt.value("width") if end == "max" else alt.value(0)
    found: alt.Chart = chart([{"at": at}]).mark_rect(style="beyond").encode(x="at:Q", x2=side)
    return found
