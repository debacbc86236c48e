"""What `make` asks of params.yaml: add an experiment to the roster, or name the matrix entries of one stage."""

import argparse
import sys
from collections.abc import Sequence
from io import StringIO

from ruamel.yaml import YAML

from pipeline import atomic, paths
from pipeline.config import load, load_roster
from pipeline.errors import UserError


def add_experiment(experiment: str) -> bool:
    """Add `experiment` to the roster if it is missing, keeping every comment, and return whether it was.

    Its parameter file is checked first: raise UserError listing every problem, or when there is no such file.
    """
    load(experiment, ())
    if experiment in load_roster().experiments:
        return False
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    roster = yaml.load(paths.roster_file().read_text(encoding="utf-8"))
    roster["experiments"].append(experiment)
    text = StringIO()
    yaml.dump(roster, text)
    with atomic.replacing(paths.roster_file()) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
    return True


def entries(stage: str, experiment: str) -> list[str]:
    """Return the names that DVC gives to one seeded stage of `experiment`, one a seed of the roster."""
    return [f"{stage}@{experiment}-{seed}" for seed in load_roster().seeds]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.roster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add an experiment to params.yaml if it is missing, and say so")
    add.add_argument("experiment")
    named = commands.add_parser("entries", help="print the names of one stage's matrix entries, for `dvc repro`")
    named.add_argument("stage")
    named.add_argument("experiment")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; exit with code 2 and one message on bad input."""
    parsed = _parsed(arguments)
    try:
        if parsed.command == "entries":
            print(*entries(parsed.stage, parsed.experiment))
        elif add_experiment(parsed.experiment):
            print(f"{paths.roster_file()}: added {parsed.experiment}; plain `dvc repro` builds it too from now on")
    except UserError as error:
        print(f"roster: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
