"""DVC's plots as one page that works offline: `python -m pipeline.apps.report.dvc_plots [show | diff A B] [options]`.

The arguments are those of `dvc plots`; without any it shows the workspace. DVC's own page loads its chart library from
the net and stays blank without it, so the page's template brings the library along and forbids every request.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.apps.report import offline
from pipeline.io import atomic

FOLDER = Path("dvc_plots")  # DVC's own default for its page
VEGA_LITE = "5.21"  # DVC's templates are written for version 5
# DVC puts its charts, each a script element, in the place of {plot_divs}; where {scripts} does not stand it puts none
# of its own.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>DVC plots</title>
<link rel="icon" href="data:,">
<style>
body { margin: 1.5rem; display: flex; flex-wrap: wrap; gap: 2rem; font: 15px/1.5 system-ui, sans-serif; }
body > div { max-width: 100%; overflow-x: auto; }
</style>
<script>LIBRARY</script>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def template() -> str:
    """Return the template that DVC fills with the charts."""
    library = offline.chart_library(VEGA_LITE)
    taken = [name for name in ("{scripts}", "{plot_divs}", "{refresh_tag}") if name in library]
    if taken:
        raise ValueError(f"the chart library holds {taken}, which DVC would replace")
    return PAGE.replace("LIBRARY", library)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `dvc plots` with the offline template and return its exit status."""
    chosen = list(sys.argv[1:] if arguments is None else arguments) or ["show"]
    path = FOLDER / "template.html"
    with atomic.replacing(path) as temporary:
        temporary.write_text(template(), encoding="utf-8")
    command = [sys.executable, "-m", "dvc", "plots", *chosen, "--html-template", str(path)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
