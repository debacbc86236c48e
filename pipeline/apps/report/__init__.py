"""The report: HTML page, figures, LaTeX table and completions as CSV, all a projection of what is on disk."""

from pathlib import Path


def write(experiment: str) -> Path:
    """Write `reports/<experiment>/` from what is on disk and return the path of its page.

    Raises UserError when the experiment is not evaluated or a file of it is broken; a part that is not on disk is
    named as missing in the page.
    """
    from pipeline.apps.report import writing  # late: the chart libraries take a second to import

    return writing.write(experiment)
