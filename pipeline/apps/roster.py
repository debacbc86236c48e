"""What `make` asks of params.yaml: add an experiment to the roster, or name the matrix entries of one stage."""

import argparse
import sys
from collections.abc import Sequence
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import plain_yaml
from pipeline.config.loader import load, load_roster
from pipeline.io import atomic, paths
from pipeline.io.errors import UserError


def add_experiment(experiment: str) -> bool:
    """Add `experiment` to the roster if it is missing, keeping every comment, and return whether it was.

    Its parameter file is checked first: raise UserError listing every problem, or when there is no such file. Where
    params.yaml cannot be read, or would not say the same and the new name afterwards, it stays as it is.
    """
    load(experiment, ())
    if experiment in load_roster().experiments:
        return False
    path = paths.roster_file()
    before = plain_yaml.read_text(path)
    after = _with(experiment, before)
    expected = plain_yaml.parsed(path, before)
    expected["experiments"].append(experiment)
    if after is None or plain_yaml.parsed(path, after) != expected:
        raise UserError(f"{path}: experiments: {experiment} cannot be added to a file of this form; add it by hand")
    with atomic.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(after)
    return True


def _with(experiment: str, text: str) -> str | None:
    """Return the text of params.yaml with one more experiment; None where it cannot be edited without loss."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    edited = StringIO()
    try:
        roster = yaml.load(text.replace("\r\n", "\n"))
        roster["experiments"].append(experiment)
        yaml.dump(roster, edited)
    except YAMLError:  # YAML 1.2 has a few rules of its own
        return None
    return edited.getvalue().replace("\n", "\r\n") if "\r\n" in text else edited.getvalue()


def entries(stage: str, experiment: str) -> list[str]:
    """Return the names that DVC gives to one seeded stage of `experiment`, one a seed of the roster."""
    return [f"{stage}@{experiment}-{seed}" for seed in load_roster().seeds]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.roster", description=__doc__)
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
