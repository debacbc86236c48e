"""What `make` asks of params.yaml: add an experiment, spell out what it names, or name the entries of a stage."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import plain_yaml
from pipeline.config.loader import load
from pipeline.config.roster import REMEDY, load_lists, load_roster, spelled_out
from pipeline.io import atomic, paths
from pipeline.io.errors import UserError
from pipeline.methods import METHODS

HEADING = "# Written by `make dag` from the lists above and the methods that each experiment names.\n"


def add_experiment(experiment: str) -> bool:
    """Add `experiment` to the roster if it is missing, spell everything out, and return whether it was missing.

    Its parameter file is checked first: raise UserError listing every problem, or when there is no such file. Where
    params.yaml cannot be edited without loss, it stays as it is.
    """
    load(experiment, ())
    return _write(experiment)


def spell_out(check: bool = False) -> None:
    """Write what the seeds and the methods of every experiment in params.yaml come to.

    To `check` is to write nothing, and to raise UserError where it is not written there yet.
    """
    _write(None, check)


def _write(added: str | None, check: bool = False) -> bool:
    """Bring params.yaml up to date; return whether an experiment was added."""
    path, lists = paths.roster_file(), load_lists()
    before = plain_yaml.read_text(path)
    roster = plain_yaml.parsed(path, before)
    new = [added] if added is not None and added not in lists.experiments else []
    experiments = [*lists.experiments, *new]
    derived = spelled_out(experiments, lists.seeds, list(METHODS), methods_of)
    expected = {**roster, "experiments": experiments, **derived}
    if expected == roster:
        return False
    if check:
        raise UserError(f"{path}: not as its lists and the experiments' methods make it; {REMEDY}")
    after = _edited(before, new, derived)
    if after is None or plain_yaml.parsed(path, after) != expected:
        what = f"experiments: {added} cannot be added to" if new else "its entries cannot be spelled out in"
        raise UserError(f"{path}: {what} a file of this form; restore it with `git checkout {path}`")
    with atomic.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(after)
    return bool(new)


def _edited(text: str, new: Sequence[str], derived: Mapping[str, Any]) -> str | None:
    """Return the text of params.yaml with these experiments more and everything spelled out; None where it would lose.

    What a person wrote keeps its comments.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    edited = StringIO()
    try:
        roster = yaml.load(text.replace("\r\n", "\n"))
        roster.fa.set_block_style()  # what is spelled out below is no part of a mapping in braces
        for key in derived:
            roster.pop(key, None)
        roster["experiments"].extend(new)
        yaml.dump(roster, edited)
    except YAMLError:  # YAML 1.2 has a few rules of its own
        return None
    written = edited.getvalue().replace(HEADING, "").rstrip("\n") + f"\n\n{HEADING}{_lines(derived)}"
    return written.replace("\n", "\r\n") if "\r\n" in text else written


def _lines(derived: Mapping[str, Any]) -> str:
    lines = ["trainings:"]
    for method, entries in derived["trainings"].items():
        lines.append(f"  {method}:" if entries else f"  {method}: {{}}")
        lines += [f"    {name}: {_flow(entry)}" for name, entry in entries.items()]
    lines.append("policies:")
    lines += [f"  {name}: {_flow(entry)}" for name, entry in derived["policies"].items()]
    return "\n".join(lines) + "\n"


def _flow(entry: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key}: {value}" for key, value in entry.items()) + " }"


def methods_of(experiment: str) -> list[str]:
    """Return the methods that an experiment names, in the order in which methods are listed."""
    return list(load(experiment, ()).whole.methods)


def entries(stage: str, experiment: str) -> list[str]:
    """Return the names that DVC gives to one seeded stage of `experiment`, one a seed; `train` is all its trainings."""
    stages = [f"train_{method}" for method in methods_of(experiment)] if stage == "train" else [stage]
    return [f"{name}@{experiment}-{seed}" for seed in load_roster().seeds for name in stages]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.apps.roster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add an experiment to params.yaml if it is missing, and say so")
    add.add_argument("experiment")
    commands.add_parser("spell-out", help="write what seeds and methods come to below the lists")
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
        elif parsed.command == "spell-out":
            spell_out()
        elif add_experiment(parsed.experiment):
            print(f"{paths.roster_file()}: added {parsed.experiment}; plain `dvc repro` builds it too from now on")
    except UserError as error:
        print(f"roster: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
