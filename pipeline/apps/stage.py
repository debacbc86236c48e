"""What every stage shares: its node of the DAG, arguments, checked parameters, one writer, one MLflow run."""

import argparse
import logging
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.apps.plan import checking as plan
from pipeline.config.loader import Settings, load
from pipeline.config.roster import REFERENCE, REMEDY
from pipeline.io import machine, paths, process
from pipeline.io.atomic import together
from pipeline.io.errors import Arguments, UserError, shown
from pipeline.methods import METHODS
from pipeline.methods.loop.checkpoints import Checkpoints, open_checkpoints
from pipeline.tracking import runs


def _seed(text: str) -> int:
    if re.fullmatch("0|[1-9][0-9]{0,9}", text, re.ASCII) is None or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to {2**31 - 1}, got {shown(text)}")
    return int(text)


AXES: dict[str, dict[str, Any]] = {
    "experiment": {"help": "name of a file in experiments/, without .yaml"},
    "seed": {"type": _seed, "help": "seed of every source of randomness"},
    "method": {"choices": list(METHODS), "help": "what to train with"},
    "policy": {"choices": [REFERENCE, *METHODS], "help": "whose adapter to load"},
}


@dataclass(frozen=True)
class Place:
    """A place on the DAG's axes; the seed is a text where dvc.yaml is written."""

    experiment: str
    seed: Any = None
    method: str = ""
    policy: str = ""


def _nothing(at: Place) -> Iterable[Path]:
    return ()


def _no_plots(at: Place) -> Mapping[Path, Mapping[str, str]]:
    return {}


@dataclass(frozen=True)
class Node:
    """One node of the DAG, as dvc.yaml declares it; `make dag` adds the modules that the stage reaches.

    `sections` of the experiment file are all that the stage reads; `roster`: keys of params.yaml. The functions give
    files and folders at a place: `reads` and `outs` in DVC's cache, `metrics` and `plots` in Git, with what DVC draws
    of a plot.
    """

    axes: tuple[str, ...]
    sections: tuple[str, ...]
    reads: Callable[[Place], Iterable[Path]] = _nothing
    outs: Callable[[Place], Iterable[Path]] = _nothing
    metrics: Callable[[Place], Iterable[Path]] = _nothing
    plots: Callable[[Place], Mapping[Path, Mapping[str, str]]] = _no_plots
    roster: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One execution of a stage: its place in the DAG, its parameters, and its MLflow run."""

    name: str
    experiment: str
    settings: Settings
    run: runs.Run
    seed: int = 0
    method: str = ""
    policy: str = ""
    checkpoints: Checkpoints | None = None  # of a training alone


def run_stage(
    stage: str,
    node: Node,
    body: Callable[[Stage], None],
    description: str | None,
    arguments: Sequence[str] | None = None,
    continues: bool | Callable[[Settings], bool] = False,
) -> None:
    """Run `body` as the stage of this name; exit with code 2 and one message on bad input, with 130 on Ctrl-C.

    A stage that `continues`, always or where its parameters say so, gets checkpoints, and goes on in the MLflow run of
    the execution that left them.
    """
    parser = Arguments(prog=f"python -m stages.{stage}", description=description)
    for axis in node.axes:
        parser.add_argument(axis, **AXES[axis])
    axes = vars(parser.parse_args(arguments))
    method = axes.get("method", "")
    name = f"{stage}_{method}" if method else stage
    place = {axis: value for axis, value in axes.items() if axis != "method"}
    sections = tuple(section.format(method=method) for section in node.sections)
    with process.unbreakable(), _one_line(name):
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        process.die_with_parent()
        process.terminate_as_exit()
        process.keep_private(*paths.private())
        settings = load(axes["experiment"], sections)
        _check_named(axes, settings.whole.methods)
        params = settings.flattened()
        plan.check(name, axes["experiment"], settings.whole, axes.get("policy", ""))
        with machine.limits(params), process.exclusive("-".join([name, *map(str, place.values())])):
            trains = continues(settings) if callable(continues) else continues
            checkpoints = open_checkpoints(name, params=params, **place) if trains else None
            left = runs.PreviousRun(checkpoints.key, checkpoints.execution().get("run_id")) if checkpoints else None
            with runs.start(name, params=params, left=left, **place) as run, together():
                if checkpoints:
                    checkpoints.note(run_id=run.run_id)
                body(Stage(name=name, settings=settings, run=run, checkpoints=checkpoints, **axes))
            if checkpoints:  # not before the outputs are in their places
                trained = name.removeprefix("train_")
                checkpoints.note_finished(paths.metrics(axes["experiment"], trained, axes["seed"]))


def _check_named(axes: Mapping[str, Any], methods: Mapping[str, Any]) -> None:
    """Raise UserError for a method that the experiment does not name: params.yaml spells out what it named before."""
    for method in (axes.get("method"), axes.get("policy")):
        if method and method != REFERENCE and method not in methods:
            file = paths.experiment_file(axes["experiment"])
            raise UserError(f"{file}: methods: has no section {method}; add it, or {REMEDY} to leave {method} out")


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
