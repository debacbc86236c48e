"""One colour a policy, the same in every chart and table; and what a chart looks like on a light and a dark page.

The colours are those of Okabe and Ito (2008), which colour-blind readers tell apart, the yellow ones darkened so that
each has a contrast of 3 : 1 or more on both backgrounds. Colour is never the only sign: names stand beside the marks.
"""

from collections.abc import Sequence
from typing import Any

from pipeline.methods import METHODS

COLORS = {
    "reference": "#767b84",
    **{name: method.colour for name, method in METHODS.items()},
    "best_of_k": "#b8609a",
    "word_filter": "#a67c00",
}
OTHERS = ("#3b8ea5", "#8c6bb1", "#97704a", "#5c8a3a")
BACKGROUNDS = {"light": "#ffffff", "dark": "#16181c"}
SHAPES = {"reference": "circle", **{name: method.shape for name, method in METHODS.items()}}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"
# Of figures on paper: the metric twin of Arial, which vl-convert brings along.
PAPER_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"


def colors(names: Sequence[str]) -> dict[str, str]:
    """Return the colour of every name; a name that is not known takes one of its own in the order given."""
    unknown = [name for name in names if name not in COLORS]
    extra = {name: OTHERS[index % len(OTHERS)] for index, name in enumerate(unknown)}
    return {name: COLORS.get(name, extra.get(name, "")) for name in names}


def shapes(names: Sequence[str]) -> list[str]:
    """Return the point shape of every name; a baseline, which trains nothing, is a cross."""
    return [SHAPES.get(name, "cross") for name in names]


INKS = {  # text and marks without a policy, axes, and lines of the grid
    "light": ("#22262b", "#5a616b", "#e3e6ea"),
    "dark": ("#e6e8eb", "#a2a9b3", "#30343a"),
}


def theme(scheme: str, font: str = FONT, legend: bool = False) -> dict[str, Any]:
    """Return the Vega-Lite config of a scheme: `light` or `dark`."""
    ink, soft, faint = INKS[scheme]
    return {
        "background": None if font == FONT else BACKGROUNDS[scheme],
        "font": font,
        "view": {"stroke": None},
        "axis": {
            "domainColor": soft,
            "gridColor": faint,
            "labelColor": soft,
            "tickColor": soft,
            "titleColor": ink,
            "titleFontWeight": "normal",
            "labelFontSize": 11,
            "titleFontSize": 11,
            "labelLimit": 160,
            "titlePadding": 8,
            "labelFlush": False,
            "labelOverlap": True,
        },
        "axisX": {"tickCount": 5},
        "axisY": {"domain": False, "ticks": False, "labelPadding": 6},
        "legend": {"disable": not legend, "labelColor": ink, "title": None, "orient": "bottom", "symbolOpacity": 1},
        # One weight: a PDF with two fonts has them in the order of a hash table, and so differs from run to run.
        "title": {"color": ink, "fontSize": 13, "fontWeight": "normal", "anchor": "start", "offset": 10},
        "style": _styles(ink, soft),
    }


def _styles(ink: str, soft: str) -> dict[str, Any]:
    """Return the looks of marks that belong to no policy, by the name that a chart gives them."""
    return {
        "zero": {"color": soft, "strokeWidth": 1},
        "limit": {"color": ink, "strokeWidth": 1, "strokeDash": [4, 3]},
        "name": {"color": ink, "fontSize": 11},
        "beyond": {"color": soft, "opacity": 0.12},
        "judge": {"color": ink},
        "judge-line": {"color": ink, "strokeWidth": 1.5},
        "front": {"color": soft, "strokeWidth": 1.5, "strokeDash": [1, 3]},
    }
