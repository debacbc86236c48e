"""How often every policy declines, on hostile and on benign prompts apart."""

from collections.abc import Mapping
from typing import Any

from pipeline.apps.report.charts.panel import Figure, Panel, interval_chart, row
from pipeline.apps.report.refusals import REFERENCE, Line, lines


def by_label(evaluation: Mapping[str, Any]) -> Figure:
    """Return one panel a label, all on one axis: the refusal rate with its interval, and a line at the reference."""
    found = lines(evaluation)
    names = list(evaluation["meta"]["policies"])
    ends = [end for line in found for end in (line.rate.value, line.rate.high) if end is not None]
    domain = [0.0, max([0.01, *ends])]
    caption = (
        "Share of completions that decline; bars are intervals, the dashed line is the reference. More of it on "
        "hostile prompts can be right; on benign ones it is over-refusal."
    )
    panels = [_panel(label, [line for line in found if line.label == label], names, domain) for label in _labels(found)]
    return Figure("refusals", caption, names, panels)


def _labels(found: list[Line]) -> list[str]:
    return list(dict.fromkeys(line.label for line in found))


def _panel(label: str, found: list[Line], names: list[str], domain: list[float]) -> Panel:
    rows = [row(line.policy, line.rate) for line in found]
    reference = next((line.rate.value for line in found if line.policy == REFERENCE), None)
    title = f"Refusals of {found[0].title}"
    drawn = interval_chart(rows, names, "share that declines", at=reference, style="limit", domain=domain)
    return Panel(f"refusal-{label}", title, f"{title}: share of every policy's completions, with intervals", drawn)
