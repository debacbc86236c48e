"""L1: what a stage sees of its MLflow run. Imports no mlflow; a store that fails costs one warning, no training."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.records import rounded
from pipeline.tracking_uri import reason, redacted

logger = logging.getLogger(__name__)

FLUSH_METRICS = 50  # one batch of 50 is about 30 times cheaper than 50 single calls
FLUSH_SECONDS = 5.0


class Point(NamedTuple):
    """One point of a metric's history; the time is in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


class Run(Protocol):
    """The MLflow run of one stage execution."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show a point of the training curves while the training goes on; never raises.

        Names and values are those of the CSV on disk, which completes the run at its end; only metrics under `time/`
        are shown here and nowhere on disk. A value that is not finite is missing.
        """


class NullRun:
    """The run of a stage whose tracking is switched off."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show nothing."""


class Store(Protocol):
    """What a live run asks of MLflow; every call may fail."""

    uri: str

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log points of metrics."""

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""


class LiveRun:
    """The run of a stage at work. Points are sent in batches; what is not sent is completed from disk at the end."""

    def __init__(self, store: Store, run_id: str, complete: Callable[[], object]) -> None:
        self._store = store
        self._run_id = run_id
        self._complete = complete
        self._pending: list[Point] = []
        self._sent = time.monotonic()
        self._lost = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Buffer a point of every curve, and send the buffer when it is full or old."""
        now = int(time.time() * 1000)
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._pending += [Point(name, rounded(value), now, step) for name, value in finite.items()]
        if len(self._pending) >= FLUSH_METRICS or time.monotonic() - self._sent > FLUSH_SECONDS:
            self._flush()

    def finish(self) -> None:
        """Complete the run from what the stage has written, and close it as FINISHED."""
        self._flush()
        # FINISHED says that all is there, so it comes last; `make track` looks for it.
        if self._attempt(self._complete) and self._attempt(lambda: self._store.end(self._run_id, "FINISHED")):
            return
        self._attempt(lambda: self._store.end(self._run_id, "FAILED"))

    def abort(self, status: str) -> None:
        """Close the run as FAILED or KILLED, with the points that it has."""
        self._flush()
        self._attempt(lambda: self._store.end(self._run_id, status))

    def _flush(self) -> None:
        points, self._pending, self._sent = self._pending, [], time.monotonic()
        if points and not self._lost:  # each try on a dead server costs seconds of the training
            self._attempt(lambda: self._store.log_points(self._run_id, points))

    def _attempt(self, action: Callable[[], object]) -> bool:
        # Whatever a store, its driver or its network raises, the stage's result is on disk and outlives it.
        try:
            action()
        except Exception as error:
            if not self._lost:
                place, why = redacted(self._store.uri), reason(error)
                logger.warning("tracking: %s failed (%s); the stage goes on; `make track` adds the rest", place, why)
            self._lost = True
            return False
        return True
