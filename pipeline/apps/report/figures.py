"""The figures as SVG and PDF for papers: light, with a legend, and the same bytes from the same numbers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import altair as alt

from pipeline.apps.report import palette
from pipeline.apps.report.charts.panel import Figure
from pipeline.io import atomic

PANEL_WIDTH = 280  # pixels of one panel
WIDE = 420  # of a figure's only panel
COLUMNS = 3
VEGA_LITE = "6.4"
# The entries of a page's resources, one a line: the converter writes them in the order of a hash table.
_RESOURCES = re.compile(rb"(/(?:XObject|ExtGState|Font|Pattern|Shading|ColorSpace) <<\n)((?:[ ]+/\w+ \d+ \d+ R\n)+)")


def write(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Write `<figure>.svg` and `<figure>.pdf` into `folder`, which holds nothing else afterwards."""
    import vl_convert

    with atomic.replacing_folder(folder) as temporary:
        for name, figure in figures.items():
            if figure.panels:
                svg = vl_convert.vegalite_to_svg(specification(figure), vl_version=VEGA_LITE)
                (temporary / f"{name}.svg").write_text(svg, encoding="utf-8")
                (temporary / f"{name}.pdf").write_bytes(sorted_resources(vl_convert.svg_to_pdf(svg)))


def specification(figure: Figure) -> dict[str, Any]:
    """Return one Vega-Lite specification of all panels, side by side, with a legend where names have colours."""
    width = WIDE if len(figure.panels) == 1 else PANEL_WIDTH
    panels = [panel.chart.properties(width=width, title=panel.title) for panel in figure.panels]
    whole = alt.concat(*panels, columns=COLUMNS).to_dict()
    return {**whole, "config": palette.theme("light", palette.PAPER_FONT, legend=bool(figure.names))}


def sorted_resources(pdf: bytes) -> bytes:
    """Return a PDF with the resources of its page in order; no byte changes its place but within these lists."""
    return _RESOURCES.sub(lambda found: found[1] + b"".join(sorted(found[2].splitlines(keepends=True))), pdf)
