"""L1: the run of an execution that did its work while its MLflow store was away: begun there, and never finished.

`make track` completes it, so that there is one run and not two. It is told from the runs of other executions by what it
holds: the same parameters, and either the fingerprint of what is on disk or no point that is not on disk.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.projection import Execution, Projection, shown_params

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_ON_DISK = "time/"  # only the run that was there has these metrics


def find(client: "MlflowClient", experiment_id: str, projected: Projection, params: Mapping[str, Any]) -> str | None:
    """Return the newest run that ended as KILLED or FAILED and shows what is on disk in part; None where there is none.

    One without any point is taken only where it is KILLED, its process gone without a word: a stage that failed has
    said so.
    """
    shown = shown_params(params)
    for run in _not_finished(client, experiment_id, projected.execution):
        if run.data.params == shown and (_has_fingerprint(run, projected) or _is_part(client, run, projected)):
            return str(run.info.run_id)
    return None


def _not_finished(client: "MlflowClient", experiment_id: str, execution: Execution) -> list[Any]:
    """Return the runs of the execution that did not come to their end, newest first."""
    wanted = {"stage": execution.stage}
    if execution.seed is not None:
        wanted["seed"] = str(execution.seed)
    conditions = [f"tags.{key} = '{value}'" for key, value in wanted.items()]
    conditions += [f"attributes.status != '{status}'" for status in ("FINISHED", "RUNNING")]
    return list(client.search_runs([experiment_id], " and ".join(conditions)))


def _has_fingerprint(run: Any, projected: Projection) -> bool:
    return "fingerprint" in projected.tags and run.data.tags.get("fingerprint") == projected.tags["fingerprint"]


def _is_part(client: "MlflowClient", run: Any, projected: Projection) -> bool:
    names = [name for name in run.data.metrics if not name.startswith(NOT_ON_DISK)]
    for name in names:
        on_disk = projected.metrics.get(name, {})
        points = client.get_metric_history(run.info.run_id, name)
        if any(on_disk.get(point.step) != point.value for point in points):
            return False
    return bool(names) or run.info.status == "KILLED"
