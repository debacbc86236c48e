"""Rebuild the MLflow runs that are missing, from params, curves, metrics and adapters on disk: `make track`.

Runs are missing after `dvc pull`, in a fresh clone, after a result came from DVC's run cache, with `TRACKING=off`, and
where a server was down. A second call adds nothing.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pipeline.config.loader import load
from pipeline.config.roster import load_roster
from pipeline.io.errors import UserError
from pipeline.tracking.address import refusal
from pipeline.tracking.description import missing_results
from pipeline.tracking.execution import executions
from pipeline.tracking.store import Store


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each execution of the roster; exit with code 2 and one message on bad input."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.track", description=__doc__)
    parser.add_argument("experiment", nargs="*", help="name of a file in experiments/; default: the whole roster")
    names = parser.parse_args(arguments).experiment
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        for experiment in names or load_roster().experiments:
            rebuild(experiment)
    except UserError as error:
        print(f"track: {error}", file=sys.stderr)
        sys.exit(2)


def rebuild(experiment: str) -> None:
    """Find or rebuild the run of every execution of one experiment that is on disk, and print what was done."""
    load(experiment, ())  # an unknown or broken experiment is refused before anything is written
    store = Store.open(experiment)
    for execution in executions(experiment, load_roster()):
        absent = missing_results(execution)
        if absent:
            done = f"skipped: no {'metrics' if execution.metrics else 'adapter'} on disk ({absent[0]})"
        else:
            with refusal(store.uri):
                done = store.ensure(execution)[1]
        print(f"{execution.lock_entry}: {done}", flush=True)


if __name__ == "__main__":
    main()
