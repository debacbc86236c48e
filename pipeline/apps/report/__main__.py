"""Write the report of one experiment: `python -m pipeline.apps.report EXPERIMENT`."""

import argparse
import sys
from collections.abc import Sequence

from pipeline.apps import report
from pipeline.io.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report and print its path; exit with code 2 and one message where the experiment has no evaluation."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.report", description=__doc__)
    parser.add_argument("experiment", help="name of a file in experiments/, without .yaml")
    chosen = parser.parse_args(arguments)
    try:
        print(report.write(chosen.experiment))
    except UserError as error:
        print(f"report: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
