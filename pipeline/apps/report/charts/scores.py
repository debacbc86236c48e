"""Where the scores lie: the share of completions at or above every score."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from pipeline.apps.report.charts.panel import Chart, Figure, Panel, Row, chart, color, line
from pipeline.apps.report.numbers import label
from pipeline.apps.report.roles import judges_in_order, role


def distribution(evaluation: Mapping[str, Any], histogram: Sequence[Row]) -> Figure:
    """Return one panel a judge: for every policy the share of completions that score x or more."""
    policies, threshold = list(evaluation["meta"]["policies"]), evaluation["meta"]["threshold"]
    panels = []
    for judge in judges_in_order(evaluation):
        rows = [item for policy in policies for item in exceedance(histogram, policy, judge)]
        if rows:
            words = f"Share of completions at or above every score by {judge}, one line a policy"
            title = f"{judge}: {role(evaluation, judge)}"
            panels.append(Panel(f"scores-{judge}", title, words, _lines(rows, policies, threshold)))
    caption = (
        f"The share of completions that a judge scores x or more; the dashed line is the threshold {threshold:g}. "
        "Lower is better. The axis is square-rooted, so that the rare and most toxic completions can be seen."
        if panels
        else "The distribution of scores is not on disk."
    )
    return Figure("scores", caption, policies, panels)


def exceedance(histogram: Sequence[Row], policy: str, judge: str) -> list[Row]:
    """Return the share at or above the lower edge of every bin; nothing where a share is missing."""
    bins = sorted(
        (item for item in histogram if item["policy"] == policy and item["judge"] == judge),
        key=lambda item: item["bin"],
    )
    if any(item["share"] is None for item in bins):
        return []
    shares = [item["share"] for item in bins]
    return [{"name": label(policy), "score": item["bin"], "share": sum(shares[at:])} for at, item in enumerate(bins)]


def _lines(rows: list[Row], names: list[str], threshold: float) -> Chart:
    base = chart(rows).encode(
        x=alt.X("score:Q", title="score", scale=alt.Scale(domain=[0, 1])),
        y=alt.Y(
            "share:Q",
            title="share at or above it",
            scale=alt.Scale(type="sqrt", domain=[0, 1]),
            axis=alt.Axis(format="%", values=[0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]),
        ),
        color=color(names),
        tooltip=["name:N", "score:Q", alt.Tooltip("share:Q", format=".2%")],
    )
    return alt.layer(line(threshold, "x", "limit"), base.mark_line(strokeWidth=1.8)).properties(height=230)
