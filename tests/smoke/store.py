"""A look into an MLflow store: what its runs hold, as plain values that two stores can be compared by."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.smoke.workspace import EXPERIMENT, sha256


@dataclass(frozen=True)
class SeenRun:
    """One run; `history` is metric -> step -> value, `inputs` name -> digest, `artifacts` path -> SHA-256."""

    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    history: dict[str, dict[int, float]]
    inputs: dict[str, str]
    artifacts: dict[str, str]

    def lasting(self) -> dict[str, Any]:
        """Return what is the same in a run that was rebuilt from disk."""
        fingerprints = {key: value for key, value in self.tags.items() if "fingerprint" in key}
        history = {name: points for name, points in self.history.items() if not name.startswith("time/")}
        return vars(self) | {"tags": fingerprints, "history": history}


def uri(root: Path) -> str:
    """Return the store that stages use by default in a working copy."""
    return f"sqlite:///{root}/mlflow.db"


def runs(store: str, name: str = EXPERIMENT) -> list[SeenRun]:
    """Return every run of the experiment, in the order in which they began."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(name)
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return [_seen(client, run) for run in sorted(found, key=lambda run: run.info.start_time)]


def by_name(seen: list[SeenRun]) -> dict[str, SeenRun]:
    """Return runs by their names, of which there may be one each."""
    named = {run.name: run for run in seen}
    assert len(named) == len(seen), sorted(run.name for run in seen)
    return named


def _seen(client: Any, run: Any) -> SeenRun:
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    history = {name: {point.step: point.value for point in points} for name, points in sorted(histories.items())}
    assert all(len(points) == len(history[name]) for name, points in histories.items()), "a point was logged twice"
    return SeenRun(
        name=run.info.run_name,
        status=run.info.status,
        params=run.data.params,
        tags=run.data.tags,
        history=history,
        inputs={item.dataset.name: item.dataset.digest for item in run.inputs.dataset_inputs},
        artifacts={path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()},
    )
