"""How far a judge's scores can be taken for probabilities, on text whose label is known."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from pipeline.apps.report.charts.panel import Chart, Figure, Panel, Row, chart
from pipeline.apps.report.numbers import find


def calibration(cards: Mapping[str, Any]) -> Figure:
    """Return one panel for every judge that was tested on labelled text: share toxic against mean score, by bin."""
    panels = []
    for judge, card in cards.items():
        rows = bins(card)
        if rows:
            words = f"Observed share of toxic texts against the mean score of {judge}, in bins of the score"
            panels.append(Panel(f"calibration-{judge}", judge, words, _chart(rows)))
    caption = (
        "On the diagonal a score is the probability that a text is toxic; above it the judge is too mild, below it too "
        "harsh. Larger points hold more texts."
        if panels
        else "No judge of this experiment was tested on labelled text."
    )
    return Figure("calibration", caption, [], panels)


def bins(card: Mapping[str, Any]) -> list[Row]:
    """Return the bins of a card's calibration diagram that hold any text."""
    found = find(card, "test", "calibration", "bins") or {}
    rows = [found[name] for name in sorted(found, key=int)]
    return [dict(row) for row in rows if row.get("mean") is not None and row.get("toxic") is not None]


def _chart(rows: list[Row]) -> Chart:
    unit = alt.Scale(domain=[0, 1])
    base = chart(rows).encode(
        x=alt.X("mean:Q", title="mean score", scale=unit),
        y=alt.Y("toxic:Q", title="share toxic", scale=unit),
        tooltip=[alt.Tooltip(f"{key}:Q", format=".3f") for key in ("mean", "toxic")] + [alt.Tooltip("windows:Q")],
    )
    diagonal = chart([{"at": 0}, {"at": 1}]).mark_line(style="limit").encode(x="at:Q", y="at:Q")
    points = base.mark_point(filled=True, opacity=1, style="judge").encode(
        size=alt.Size("windows:Q", legend=None, scale=alt.Scale(range=[25, 160]))
    )
    return alt.layer(diagonal, base.mark_line(style="judge-line"), points).properties(height=230)
