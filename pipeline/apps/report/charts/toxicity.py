"""How toxic every policy is: by judge, by how many samples are drawn, by category of prompts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt

from pipeline.apps.report.charts.panel import (
    Chart,
    Figure,
    Panel,
    Row,
    chart,
    color,
    compared,
    interval_chart,
    labels,
    row,
)
from pipeline.apps.report.numbers import find, interval, label
from pipeline.apps.report.roles import judges_in_order, role
from pipeline.data.schema import LABELS

REFERENCE = "reference"
MOST_CATEGORIES = 20  # drawn; more would be a page of bars


def by_judge(evaluation: Mapping[str, Any]) -> Figure:
    """Return one panel a judge: mean toxicity with its interval, and a line at the reference."""
    names = list(compared(evaluation))
    panels = []
    for judge in judges_in_order(evaluation):
        rows = [
            row(name, interval(entry, "judges", judge, "toxicity_mean")) for name, entry in compared(evaluation).items()
        ]
        reference = find(evaluation, REFERENCE, "judges", judge, "toxicity_mean", "value")
        panels.append(
            Panel(
                f"toxicity-{judge}",
                f"{judge}: {role(evaluation, judge)}",
                f"Mean toxicity of every policy and baseline by the judge {judge}, with intervals",
                interval_chart(rows, names, "mean toxicity", at=reference, style="limit"),
            )
        )
    caption = (
        "Mean toxicity of a completion; lower is better. Bars are intervals, the dashed line is the reference. A "
        "method that gains by the training reward alone has learned to please that scorer."
    )
    return Figure("toxicity", caption, names, panels)


def by_samples(evaluation: Mapping[str, Any]) -> Figure:
    """Return expected maximum toxicity of k samples, and what reranking k samples without training achieves."""
    primary, policies = evaluation["meta"]["primary_judge"], evaluation["meta"]["policies"]
    maxima = [item for name in policies for item in _at_k(name, find(evaluation, name, "judges", primary, "emt_at_k"))]
    baselines = evaluation.get("baselines", {})
    reranked = [item for name, entry in baselines.items() for item in _at_k(name, entry.get("at_k"))]
    names = list(compared(evaluation))
    panels = []
    if maxima:
        title = f"Expected maximum toxicity of k samples, by {primary}"
        panels.append(Panel("emt", title, title + ", for every policy", _lines(maxima, names, "expected maximum")))
    if reranked:
        title = f"Reranking k samples without training, by {primary}"
        methods = [name for name in policies if name != REFERENCE]
        levels = [row(name, interval(evaluation, name, "judges", primary, "toxicity_mean")) for name in methods]
        trained = chart(levels).mark_rule(strokeDash=[6, 3]).encode(y="value:Q", color=color(names))
        layered = alt.layer(trained, _lines(reranked, names, "mean toxicity"))
        words = "Toxicity of the least toxic of k samples of the reference; dashed lines are the trained methods"
        panels.append(Panel("reranking", title, words, layered.properties(height=220)))
    caption = (
        "Left: the most toxic of k samples, which grows with k, estimated without bias from the same samples. Right: "
        "the sample of k that a scorer likes best; dashed, the mean of the trained methods, which need one sample."
        if panels
        else "Not in this evaluation: expected maximum toxicity at k is missing."
    )
    return Figure("samples", caption, names, panels)


def by_category(evaluation: Mapping[str, Any]) -> Figure:
    """Return bars with intervals for every category of prompts, one bar a policy.

    The labels of chat prompts, hostile and benign, have a panel of their own; of the others the largest are drawn.
    """
    primary, policies = evaluation["meta"]["primary_judge"], list(evaluation["meta"]["policies"])
    counts = _prompts(evaluation)
    if not counts:
        return Figure("categories", "Not in this evaluation: the toxicity of categories is missing.", policies)
    others = sorted(set(counts) - set(LABELS), key=lambda name: (-(counts[name] or 0), name))
    panels = []
    if labelled := [label for label in LABELS if label in counts]:
        title = f"Toxicity on hostile and on benign prompts, by {primary}"
        words = f"Mean toxicity by {primary} on hostile and on benign prompts, one bar a policy, with intervals"
        panels.append(Panel("label", title, words, _bars(_category_rows(evaluation, labelled, counts), policies)))
    if others:
        title = f"Toxicity by category of prompts, by {primary}"
        words = f"Mean toxicity by {primary} in every category of prompts, one bar a policy, with intervals"
        rows = _category_rows(evaluation, sorted(others[:MOST_CATEGORIES]), counts)
        panels.append(Panel("category", title, words, _bars(rows, policies)))
    caption = (
        "A prompt counts in each of its categories; in brackets, how many prompts. Small groups have wide intervals."
    )
    if small := len(others[MOST_CATEGORIES:]):
        caption += (
            f" The {MOST_CATEGORIES} largest are drawn; categories.csv among the plots also has the other {small}."
        )
    return Figure("categories", caption, policies, panels)


def _prompts(evaluation: Mapping[str, Any]) -> dict[str, int | None]:
    """Return how many prompts each category has that some policy was judged on."""
    return {
        category: entry.get("prompts")
        for policy in evaluation["meta"]["policies"]
        for category, entry in (find(evaluation, policy, "categories") or {}).items()
    }


def _category_rows(evaluation: Mapping[str, Any], names: Sequence[str], counts: Mapping[str, int | None]) -> list[Row]:
    return [
        {**row(policy, interval(found, "toxicity_mean")), "category": _counted(category, counts[category])}
        for policy in evaluation["meta"]["policies"]
        for category in names
        if (found := find(evaluation, policy, "categories", category)) is not None
    ]


def _at_k(name: str, by_k: Mapping[str, Any] | None) -> Iterator[Row]:
    for k in sorted(by_k or {}, key=int):
        yield {**row(name, interval(by_k, k)), "k": int(k)}


def _lines(rows: list[Row], names: list[str], title: str) -> Chart:
    ticks = sorted({item["k"] for item in rows})
    k = alt.X("k:Q", title="samples k", scale=alt.Scale(type="log", base=2, nice=False), axis=alt.Axis(values=ticks))
    base = chart(rows).encode(x=k, color=color(names), tooltip=["label:N", "k:Q", alt.Tooltip("value:Q", format=".3f")])
    toxicity = alt.Y("value:Q", title=title, scale=alt.Scale(zero=True))
    band = base.mark_area(opacity=0.12, line=False).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    return alt.layer(band, base.mark_line(point=True, strokeWidth=2).encode(y=toxicity)).properties(height=220)


def _bars(rows: list[Row], names: list[str]) -> Chart:
    base = chart(rows).encode(
        y=alt.Y("category:N", title=None, scale=alt.Scale(paddingInner=0.25)),
        yOffset=alt.YOffset("name:N", scale=alt.Scale(domain=labels(names))),
        tooltip=["category:N", "label:N", *(alt.Tooltip(f"{key}:Q", format=".3f") for key in ("value", "low", "high"))],
    )
    bars = base.mark_bar(opacity=0.85).encode(x=alt.X("value:Q", title="mean toxicity"), color=color(names))
    ends = base.mark_rule(style="zero").encode(x="low:Q", x2="high:Q")
    categories = len({item["category"] for item in rows})
    return alt.layer(bars, ends).properties(height=categories * (10 * len(names) + 12))


def _counted(category: str, prompts: int | None) -> str:
    return f"{label(category)} ({prompts if prompts is not None else 'missing'})"
