"""L1: the MLflow run of a training that was interrupted: found again by its id, and gone on with."""

from typing import TYPE_CHECKING, Any

from pipeline.projection import provenance
from pipeline.tracking_run import Left

if TYPE_CHECKING:
    from mlflow import MlflowClient

KEY = "training.key"  # digest of all that the training's result depends on
CONTINUED = "continued"  # how often it was interrupted and went on


def find(client: "MlflowClient", left: Left) -> Any:
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
