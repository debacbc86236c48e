"""What a stage sees of its MLflow run. Imports no mlflow; a store that fails costs one warning, no training."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pipeline.io.records import rounded
from pipeline.tracking import provenance
from pipeline.tracking.address import PATIENT, Patience, patience, reason, redacted

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

FLUSH_METRICS = 50  # one batch of 50 is about 30 times cheaper than 50 single calls
FLUSH_SECONDS = 5.0
# A training waits for its points to be sent: one try, and after a failure none until the training is over.
WHILE_TRAINING = Patience(0, 10)
AFTER_A_FAILURE = Patience(0, 5)


class Point(NamedTuple):
    """One point of a metric's history; the time is in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


class PreviousRun(NamedTuple):
    """What is known of an earlier execution of the same training: the key of the training, and the run it had."""

    key: str
    run_id: str | None


class Run(Protocol):
    """The MLflow run of one stage execution."""

    @property
    def run_id(self) -> str | None:
        """Return its id in the store, None where nothing is tracked."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Show a point of the training curves while the training goes on; never raises.

        Names and values are those of the CSV on disk, which completes the run at its end; only metrics under `time/`
        are shown here and nowhere on disk. A value that is not finite is missing.
        """


class NullRun:
    """The run of a stage whose tracking is switched off."""

    run_id = None

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
    """The run of a stage at work. Points are sent in batches; after a failure they are kept and sent at the end.

    What is on disk completes the run then. A point that is sent twice with the same time is one point for MLflow.
    """

    def __init__(
        self, store: Store, run_id: str, complete: Callable[[], object], logged: Mapping[str, int] | None = None
    ) -> None:
        self._store = store
        self._logged = dict(logged or {})  # metric -> last step that an interrupted execution has shown already
        self.run_id = run_id
        self._complete = complete
        self._pending: list[Point] = []
        self._sent = time.monotonic()
        self._lost = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Buffer a point of every curve, and send the buffer when it is full or old."""
        now = int(time.time() * 1000)
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        self._pending += [
            Point(name, rounded(value), now, step)
            for name, value in finite.items()
            if step > self._logged.get(name, -1)
        ]
        is_due = len(self._pending) >= FLUSH_METRICS or time.monotonic() - self._sent > FLUSH_SECONDS
        if is_due and not self._lost:
            self._flush(WHILE_TRAINING)

    def finish(self) -> None:
        """Complete the run from what the stage has written, and close it as FINISHED."""
        if not self._flush(PATIENT):
            return
        if not self._attempt(self._complete):
            self._attempt(lambda: self._store.end(self.run_id, "FAILED"))
        # FINISHED says that all is there, so it comes last; `make track` looks for it.
        elif self._attempt(lambda: self._store.end(self.run_id, "FINISHED")) and self._lost:
            logger.info("tracking: %s works again; the run is complete", redacted(self._store.uri))

    def abort(self, status: str) -> None:
        """Close the run as FAILED or KILLED, with the points that it has."""
        if self._flush(AFTER_A_FAILURE):  # whoever ends a stage is waiting for it
            self._attempt(lambda: self._store.end(self.run_id, status), AFTER_A_FAILURE)

    def _flush(self, wanted: Patience) -> bool:
        """Send what waits and return whether it was taken; otherwise it waits on."""
        self._sent = time.monotonic()
        if self._pending and not self._attempt(lambda: self._store.log_points(self.run_id, self._pending), wanted):
            return False
        self._pending = []
        return True

    def _attempt(self, action: Callable[[], object], wanted: Patience = PATIENT) -> bool:
        # Whatever a store, its driver or its network raises, the stage's result is on disk and outlives it.
        try:
            with patience(AFTER_A_FAILURE if self._lost else wanted):
                action()
        except Exception as error:
            if not self._lost:
                place, why = redacted(self._store.uri), reason(error)
                logger.warning("tracking: %s failed (%s); the stage goes on; `make track` adds the rest", place, why)
            self._lost = True
            return False
        return True


KEY = "training.key"  # digest of all that the training's result depends on
CONTINUED = "continued"  # how often it was interrupted and went on


def find(client: "MlflowClient", left: PreviousRun) -> Any:
    """Return the run that an earlier execution left; None where this store has none, or where it may still work."""
    from mlflow.exceptions import MlflowException

    if left.run_id is None:
        return None
    try:
        run = client.get_run(left.run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    works = run.info.status == "RUNNING" and provenance.is_alive(run.data.tags)
    is_sound = run.info.lifecycle_stage == "active" and run.data.tags.get(KEY) == left.key
    return run if is_sound and not works else None


def reopen(client: "MlflowClient", run: Any) -> dict[str, int]:
    """Mark a run as this process's, and return the last step of every metric that it has."""
    run_id = run.info.run_id
    for name, value in provenance.process_tags().items():
        client.set_tag(run_id, name, value)
    client.set_tag(run_id, CONTINUED, str(int(run.data.tags.get(CONTINUED, "0")) + 1))
    client.update_run(run_id, status="RUNNING")
    histories = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
    return {name: max(point.step for point in points) for name, points in histories.items() if points}
