"""What every stage shares: arguments, checked parameters, one writer, one MLflow run, errors without a traceback."""

import argparse
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import process, tracking
from pipeline.atomic import together
from pipeline.config import Settings, load
from pipeline.errors import UserError

AXES: dict[str, dict[str, Any]] = {
    "experiment": {"help": "name of a file in experiments/, without .yaml"},
    "seed": {"type": int, "help": "seed of every source of randomness"},
    "policy": {"choices": ["reference", "sft", "ppo", "dpo"], "help": "whose adapter to load"},
}


@dataclass(frozen=True)
class Stage:
    """One execution of a stage: where it stands in the DAG, its parameters, and its MLflow run."""

    name: str
    experiment: str
    settings: Settings
    run: "tracking.Run"
    seed: int = 0
    policy: str = ""


def run_stage(
    name: str,
    axes: Sequence[str],
    sections: tuple[str, ...],
    body: Callable[[Stage], None],
    description: str | None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run `body` as the stage `name`; exit with code 2 and one message on bad input, with 130 on Ctrl-C.

    `axes` are the positional arguments (experiment, seed, policy), `sections` the parameter sections that the
    stage may read: the same that its entry in dvc.yaml declares.
    """
    parser = argparse.ArgumentParser(prog=f"python -m stages.{name}", description=description)
    for axis in axes:
        parser.add_argument(axis, **AXES[axis])
    values = vars(parser.parse_args(arguments))
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    process.die_with_parent()
    process.terminate_as_exit()
    try:
        settings = load(values["experiment"], sections)
        with process.exclusive("-".join([name, *map(str, values.values())])):
            with tracking.start(name, params=settings.flattened(), **values) as run, together():
                body(Stage(name=name, settings=settings, run=run, **values))
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
