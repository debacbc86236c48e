"""What every stage shares: arguments, checked parameters, one writer, one MLflow run, errors without a traceback."""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.apps.plan import checking as plan
from pipeline.config.loader import Settings, load
from pipeline.io import machine, paths, process
from pipeline.io.atomic import together
from pipeline.io.errors import Arguments, UserError, shown
from pipeline.methods.loop.checkpoints import Checkpoints, open_checkpoints
from pipeline.tracking import runs


def _seed(text: str) -> int:
    if re.fullmatch("0|[1-9][0-9]{0,9}", text, re.ASCII) is None or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**31 - 1}, got {shown(text)}")
    return int(text)


AXES: dict[str, dict[str, Any]] = {
    "experiment": {"help": "name of a file in experiments/, without .yaml"},
    "seed": {"type": _seed, "help": "seed of every source of randomness"},
    "policy": {"choices": ["reference", "sft", "ppo", "dpo"], "help": "whose adapter to load"},
}


@dataclass(frozen=True)
class Stage:
    """One execution of a stage: where it stands in the DAG, its parameters, and its MLflow run."""

    name: str
    experiment: str
    settings: Settings
    run: "runs.Run"
    seed: int = 0
    policy: str = ""
    checkpoints: Checkpoints | None = None  # of a training alone


def run_stage(
    name: str,
    axes: Sequence[str],
    sections: tuple[str, ...],
    body: Callable[[Stage], None],
    description: str | None,
    arguments: Sequence[str] | None = None,
    continues: bool | Callable[[Settings], bool] = False,
) -> None:
    """Run `body` as the stage `name`; exit with code 2 and one message on bad input, with 130 on Ctrl-C.

    `axes` are the positional arguments (experiment, seed, policy), `sections` the parameter sections that the
    stage may read: the same that its entry in dvc.yaml declares. A stage that `continues`, always or where its
    parameters say so, gets checkpoints, and goes on in the MLflow run of the execution that left them.
    """
    parser = Arguments(prog=f"python -m stages.{name}", description=description)
    for axis in axes:
        parser.add_argument(axis, **AXES[axis])
    values = vars(parser.parse_args(arguments))
    with process.unbreakable(), _one_line(name):
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        process.die_with_parent()
        process.terminate_as_exit()
        process.keep_private(*paths.private())
        settings = load(values["experiment"], sections)
        params = settings.flattened()
        plan.check(name, values["experiment"], settings.whole, values.get("policy", ""))
        with machine.limits(params), process.exclusive("-".join([name, *map(str, values.values())])):
            trains = continues(settings) if callable(continues) else continues
            checkpoints = open_checkpoints(name, params=params, **values) if trains else None
            left = runs.Left(checkpoints.key, checkpoints.execution().get("run_id")) if checkpoints else None
            with runs.start(name, params=params, left=left, **values) as run, together():
                if checkpoints:
                    checkpoints.note(run_id=run.run_id)
                body(Stage(name=name, settings=settings, run=run, checkpoints=checkpoints, **values))
            if checkpoints:  # not before the outputs are in their places
                method = name.removeprefix("train_")
                checkpoints.note_finished(paths.metrics(values["experiment"], method, values["seed"]))


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what a user can do something about into one line on stderr and an exit code."""
    try:
        yield
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
