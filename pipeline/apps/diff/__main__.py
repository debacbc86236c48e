"""Print what changed between two commits: `python -m pipeline.apps.diff A [B] [--markdown] [--experiment X]`."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console

from pipeline.apps.diff import showing, snapshot
from pipeline.apps.diff.comparison import compare
from pipeline.apps.diff.snapshot import WORKSPACE
from pipeline.io.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare and print; exit with code 2 and one message on bad input."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.diff", description=__doc__)
    parser.add_argument("a", metavar="A", help="commit, branch or tag to compare from")
    parser.add_argument("b", metavar="B", nargs="?", default=WORKSPACE, help=f"to compare to; default: {WORKSPACE}")
    parser.add_argument("--experiment", help="compare this one only; default: all of both rosters")
    parser.add_argument("--markdown", action="store_true", help="GitHub Markdown, for a pull request")
    parsed = parser.parse_args(arguments)
    try:
        old, new = snapshot(parsed.a), snapshot(parsed.b)
        roster, found = compare(old, new, parsed.experiment)
    except UserError as error:
        print(f"diff: {error}", file=sys.stderr)
        sys.exit(2)
    if parsed.markdown:
        print(showing.markdown(roster, found, showing.heading(old, new)))
    else:
        console = Console()
        console.print(showing.heading(old, new), style="bold")
        console.print(showing.text(roster, found))


if __name__ == "__main__":
    main()
