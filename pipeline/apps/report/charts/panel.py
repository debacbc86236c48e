"""A figure and its panels, and the marks that they share: points with intervals, and lines to compare them to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from pipeline.apps.report import palette
from pipeline.apps.report.numbers import Interval, label

Row = dict[str, Any]
Chart = alt.Chart | alt.LayerChart | alt.FacetChart
ROW_HEIGHT = 26  # pixels of one name on a vertical axis


@dataclass(frozen=True)
class Panel:
    """One chart without a width, its title, and what it shows in words for those who do not see it."""

    name: str
    title: str
    description: str
    chart: Chart


@dataclass(frozen=True)
class Figure:
    """Panels side by side; `names` are those whose colours a reader must know."""

    name: str
    caption: str
    names: list[str]
    panels: list[Panel] = field(default_factory=list)


def chart(rows: Sequence[Row]) -> alt.Chart:
    """Return an empty chart over rows that are written into it."""
    return alt.Chart(alt.Data(values=list(rows)))


def color(names: Sequence[str]) -> alt.Color:
    """Return the encoding that gives every name its one colour.

    All panels of a figure take the same names: side by side on paper they share one scale and one legend.
    """
    return alt.Color("name:N", scale=alt.Scale(domain=labels(names), range=list(palette.colors(names).values())))


def shape(names: Sequence[str]) -> alt.Shape:
    """Return the encoding that gives every name its shape."""
    return alt.Shape("name:N", scale=alt.Scale(domain=labels(names), range=palette.shapes(names)), legend=None)


def labels(names: Sequence[str]) -> list[str]:
    """Return names as they stand in the rows of a chart."""
    return [label(name) for name in names]


def row(name: str, found: Interval, **more: Any) -> Row:
    """Return one row of `interval_chart`; the label says where the value is missing."""
    missing = "" if found.value is not None else " (missing)"
    return {"name": label(name), "label": label(name) + missing, **vars(found), **more}


def interval_chart(
    rows: Sequence[Row],
    names: Sequence[str],
    title: str,
    at: float | None = None,
    style: str = "zero",
    domain: Sequence[float] | None = None,
) -> Chart:
    """Return a point with its interval for every row, from top to bottom, and a line at the value `at`."""
    scale = alt.Scale(domain=list(domain)) if domain else alt.Scale(zero=True, nice=True)
    base = chart(rows).encode(
        y=alt.Y("label:N", sort=[item["label"] for item in rows], title=None),
        color=color(names),
        tooltip=tooltip(title),
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, scale=scale), x2="high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(x="value:Q", shape=shape(names))
    layers = [line(at, "x", style)] if at is not None else []
    return alt.layer(*layers, bars, points).properties(height=ROW_HEIGHT * max(len(rows), 1))


def line(at: float, axis: str, style: str) -> alt.Chart:
    """Return a line across the chart at one value of `axis`: x or y."""
    found: alt.Chart = chart([{"at": at}]).mark_rule(style=style).encode(**{axis: "at:Q"})
    return found


def tooltip(title: str) -> list[alt.Tooltip]:
    """Return what is said of a point with an interval."""
    named = {"label": "", "value": title, "low": "from", "high": "to"}
    return [
        alt.Tooltip(f"{key}:{'N' if key == 'label' else 'Q'}", title=text, format="" if key == "label" else ".3f")
        for key, text in named.items()
    ]


def compared(evaluation: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of all policies and, after them, of the baselines."""
    policies = {name: evaluation.get(name, {}) for name in evaluation["meta"]["policies"]}
    return policies | dict(evaluation.get("baselines", {}))
