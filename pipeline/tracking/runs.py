"""The MLflow run of a stage execution: a projection of what it left on disk, through `tracking_store`.

Nothing here can change an output, and no failure here ends a stage that has begun: what MLflow misses, `make track`
rebuilds from disk. `TRACKING=off` switches tracking off; mlflow is then not even imported.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.io.errors import UserError
from pipeline.tracking.execution import Execution
from pipeline.tracking.recording import NullRun, PreviousRun, Run
from pipeline.tracking.store import Store

__all__ = ["PreviousRun", "NullRun", "Run", "Store", "start", "switched_on"]


@contextmanager
def start(
    stage: str,
    *,
    experiment: str,
    seed: int | None = None,
    policy: str | None = None,
    params: Mapping[str, Any],
    left: PreviousRun | None = None,
) -> Iterator[Run]:
    """Show a stage execution as an MLflow run; at the end of the block complete it from what is on disk.

    Where the run that an earlier execution of the same training `left` is in the store, that one goes on.

    Raises UserError when tracking cannot begin. An exception in the block makes the run FAILED; SystemExit (SIGTERM)
    and KeyboardInterrupt make it KILLED.
    """
    if not switched_on():
        yield NullRun()
        return
    run = Store.open(experiment).begin(Execution(stage, experiment, seed, policy), params, left)
    try:
        yield run
        run.finish()
    except (SystemExit, KeyboardInterrupt):
        run.abort("KILLED")
        raise
    except BaseException:
        run.abort("FAILED")
        raise


def switched_on() -> bool:
    """Return whether TRACKING is on (the default); raise UserError when it is neither on nor off."""
    value = os.environ.get("TRACKING", "on")
    if value not in ("on", "off"):
        raise UserError(f"TRACKING: expected on or off in the environment, got {value!r}")
    return value == "on"
