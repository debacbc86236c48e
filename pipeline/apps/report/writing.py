"""Write the forms of the report: figures, LaTeX table, CSV, and the page last, when everything else is there."""

from pathlib import Path

from pipeline.apps.report import before_after, charts, figures, latex, material, page
from pipeline.io import atomic, paths

REFUSALS = "refusals.tex"


def write(experiment: str) -> Path:
    """Write everything below `reports/<experiment>/` and return the path of the page."""
    found = material.read(experiment)
    drawn = charts.draw(found)
    text = page.render(found, drawn)
    folder = paths.report(experiment)
    figures.write(folder / "figures", drawn)
    _replace(folder / "table.tex", latex.table(found.evaluation))
    _replace_or_remove(folder / REFUSALS, latex.refusals(found.evaluation))
    _replace_or_remove(folder / before_after.FILE, before_after.csv_text(found.pairs) if found.pairs else "")
    _replace(folder / "index.html", text)
    return folder / "index.html"


def _replace_or_remove(path: Path, text: str) -> None:
    if text:
        _replace(path, text)
    else:
        path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    with atomic.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
