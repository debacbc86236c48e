"""A process that works as one made-up training after the other, and stops where a test lets something happen.

`trainer` is the tests' side. The other prints a line at every stop and waits for one: "begun" before the points,
"trained" before it leaves its results, and "ended" with what it logged and how long it took; or "refused" with the
message. It is a process of its own because a run whose process is gone is another than one that is still at work.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE, Popen
from typing import Any

from pipeline.io.errors import UserError
from pipeline.tracking import runs
from tests.tracking import made_up as given

METHOD, STAGE = "ppo", "train_ppo"
STEPS = len(given.CURVES)
TIMED = "time/step"  # a metric that is nowhere on disk
SIZE = 30_000  # an adapter of half a megabyte


class Trainer:
    """The tests' side: one call for the way to the next stop."""

    def __init__(self, process: "Popen[str]") -> None:
        self.process = process

    def begin(self, seed: int) -> str:
        """Begin the training of this seed; return why it could not, "" where it could."""
        word, rest = self._tell(json.dumps(seed))
        assert word in ("begun", "refused")
        return str(rest)

    def train(self) -> None:
        """Log all points."""
        assert self._tell("") == ["trained", None]

    def end(self) -> dict[str, Any]:
        """Leave the results; return `warnings`, `news` and the `seconds` since the training began."""
        word, rest = self._tell("")
        assert word == "ended"
        return dict(rest)

    def _tell(self, line: str) -> list[Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, "the training has ended with an error"
        return list(json.loads(answer))


@contextmanager
def trainer(uri: str, through: Sequence[str] = (), **environment: str) -> Iterator[Trainer]:
    """Start the process in the working directory, with its store at `uri`; it is gone after the block."""
    surroundings = given.surroundings(MLFLOW_TRACKING_URI=uri, **environment)
    command = [*through, sys.executable, "-m", "tests.tracking.trainer"]
    process = Popen(command, env=surroundings, stdin=PIPE, stdout=PIPE, text=True)
    try:
        yield Trainer(process)
    finally:
        process.communicate(timeout=60)


class Kept(logging.Handler):
    """Keeps what the pipeline logs."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("pipeline"):
            self.records.append(record)


def work(seed: int, kept: Kept) -> None:
    """Be one training, with its stops."""
    began = 0.0
    try:
        with runs.start(STAGE, experiment=given.EXPERIMENT, seed=seed, params=given.params(STAGE)) as run:
            stop("begun", "")
            began = time.monotonic()
            for step, values in given.CURVES:
                run.log(step, {**values, TIMED: 0.5})
            stop("trained")
            given.leave_training(METHOD, seed, SIZE)
    except UserError as refused:
        return say("refused", str(refused))
    logged = {
        word: [record.getMessage() for record in kept.records if record.levelno == level]
        for word, level in (("warnings", logging.WARNING), ("news", logging.INFO))
    }
    kept.records.clear()
    say("ended", {**logged, "seconds": time.monotonic() - began})


def stop(word: str, more: Any = None) -> None:
    say(word, more)
    sys.stdin.readline()


def say(word: str, more: Any) -> None:
    print(json.dumps([word, more]), flush=True)


def main() -> None:
    """Train until there are no more seeds."""
    kept = Kept()
    logging.basicConfig(level=logging.INFO, handlers=[kept])
    while line := sys.stdin.readline():
        work(json.loads(line), kept)


if __name__ == "__main__":
    main()
