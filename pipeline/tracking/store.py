"""The MLflow store: finds, makes and completes the runs that show what stages left on disk. Imports mlflow late."""

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.io.hashing import files_digest
from pipeline.tracking import address, provenance, recording, registry
from pipeline.tracking.address import Patience, patience
from pipeline.tracking.description import History, Projection, describe, missing_results, shown_params
from pipeline.tracking.execution import Execution
from pipeline.tracking.landings import before_after_table, completions_table, landings, outcome
from pipeline.tracking.recording import LiveRun, Point, PreviousRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

DEFAULTS = {  # what the user has set stays
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    **address.PATIENT.variables,
}
# The first question to a server is harmless to repeat, and nothing at the start may keep the user waiting.
FIRST_QUESTION = Patience(1, 5)
AT_THE_START = Patience(1, 10)
MAX_METRICS = 1000  # MLflow's limits for one batch
MAX_PARAMS = 100
TABLES = {  # of an evaluation's run
    "completions": completions_table,
    "before_after": before_after_table,
}
NOTE = "mlflow.note.content"  # the run's description in MLflow's pages
KIND = {"mlflow.experimentKind": "custom_model_development"}  # which of its pages MLflow opens with: runs, not traces
REPORT = "report"
REPORT_DIGEST = "report.fingerprint"


class Store:
    """An MLflow store that answered, and in it the MLflow experiment named after ours."""

    def __init__(self, client: "MlflowClient", uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    @classmethod
    def open(cls, experiment: str) -> "Store":
        """Connect, make the MLflow experiment where it is missing, and close runs whose process is gone.

        Raises UserError naming the URI, without passwords, when the store does not answer within seconds.
        """
        uri = address.tracking_uri()
        with address.refusal(uri), address.reachable(uri):
            client = _client(uri)
            with patience(FIRST_QUESTION):
                found = client.get_experiment_by_name(experiment)
            with patience(AT_THE_START):
                store = cls(client, uri, found.experiment_id if found else _new_experiment(client, uri, experiment))
                store._close_dead_runs()
        return store

    def begin(self, execution: Execution, params: Mapping[str, Any], left: PreviousRun | None = None) -> LiveRun:
        """Begin the run of a stage that is about to work, or go on in that of an interrupted one.

        Raises UserError when the store refuses it.
        """
        with address.refusal(self.uri), patience(AT_THE_START):
            run = recording.find(self.client, left) if left else None
            if run:
                run_id, logged = run.info.run_id, recording.reopen(self.client, run)
            else:
                tags = provenance.git_tags() | ({recording.KEY: left.key} if left else {})
                run_id, logged = self._create(execution, params, tags), {}
        return LiveRun(self, run_id, lambda: self._complete(run_id, execution), logged)

    def ensure(self, execution: Execution) -> tuple[str, str]:
        """Find or rebuild the finished run of what is on disk; return its id and, in words, what was done.

        A run that was found gets what it lacks, such as an adapter that was pulled since, or what its store missed.
        """
        record = provenance.recorded(execution.lock_entry)
        projected = describe(execution, record)
        note = f" ({projected.note})" if projected.note else ""
        run_id = self._find(projected)
        if run_id:
            added = self.add(run_id, projected)
            return run_id, (f"{', '.join(added)} attached" if added else "present") + note
        params = provenance.recorded_params(execution.stage, execution.experiment, record)
        tags = provenance.git_tags(execution.results) | {"rebuilt": "true"}
        unfinished = find(self.client, self.experiment_id, projected, params)
        run_id = unfinished or self._create(execution, params, tags)
        self.add(run_id, replace(projected, tags=projected.tags | tags))
        self.end(run_id, "FINISHED")
        return run_id, f"{'completed' if unfinished else 'rebuilt'}{note}"

    def add(self, run_id: str, projected: Projection) -> list[str]:
        """Log what a run lacks of its projection, and nothing twice; return the names of what was added."""
        run = self.client.get_run(run_id)
        for key, value in projected.tags.items():
            if run.data.tags.get(key) != value:
                self.client.set_tag(run_id, key, value)
        known = {item.dataset.name for item in run.inputs.dataset_inputs} if run.inputs else set()
        added = {
            "metrics": self._add_metrics(run_id, projected.metrics),
            "inputs": self._add_inputs(run_id, {k: v for k, v in projected.inputs.items() if k not in known}),
        }
        for folder, files in projected.files.items():
            added[folder] = self._add_files(run_id, folder, files)
        if projected.execution.stage == "evaluate":
            added |= self._add_evaluated(run_id, projected)
        return [name for name, happened in added.items() if happened]

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log any number of points in batches that MLflow accepts."""
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        for first in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS], synchronous=True)

    def end(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""
        self.client.set_terminated(run_id, status)

    def _complete(self, run_id: str, execution: Execution) -> None:
        projected = describe(execution)
        if projected.note:
            logger.warning("tracking: %s: %s", execution.lock_entry, projected.note)
        self.add(run_id, projected)

    def _create(self, execution: Execution, params: Mapping[str, Any], git: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        axes = {"stage": execution.stage, "method": execution.method, "seed": execution.seed}
        tags = {key: str(value) for key, value in axes.items() if value is not None}
        tags |= {**git, **provenance.lock_digest(), **provenance.process_tags()}
        tags |= {
            NOTE: execution.sentence,
            "mlflow.source.name": f"stages.{execution.stage}",
            "mlflow.source.type": "LOCAL",
        }
        if "git.commit" in git:
            tags["mlflow.source.git.commit"] = git["git.commit"]
        run_id = str(self.client.create_run(self.experiment_id, run_name=execution.run_name, tags=tags).info.run_id)
        shown = [Param(name, text) for name, text in shown_params(params).items()]
        for first in range(0, len(shown), MAX_PARAMS):
            self.client.log_batch(run_id, params=shown[first : first + MAX_PARAMS], synchronous=True)
        return run_id

    def _find(self, projected: Projection) -> str | None:
        """Return the newest finished run of the same stage and seed with the same fingerprint."""
        if "fingerprint" not in projected.tags:
            return None
        execution = projected.execution
        wanted = {"stage": execution.stage, "fingerprint": projected.tags["fingerprint"]}
        if execution.seed is not None:
            wanted["seed"] = str(execution.seed)
        found = self._search("FINISHED", wanted)
        return str(found[0].info.run_id) if found else None

    def _search(self, status: str, tags: Mapping[str, str]) -> list[Any]:
        conditions = [f"attributes.status = '{status}'", *(f"tags.{key} = '{value}'" for key, value in tags.items())]
        return list(self.client.search_runs([self.experiment_id], " and ".join(conditions)))

    def _close_dead_runs(self) -> None:
        for run in self._search("RUNNING", {"host": provenance.process_tags()["host"]}):
            if provenance.is_alive(run.data.tags):
                continue
            # Only now has the process said its last word: it may have finished the run, or another gone on with it.
            last = self.client.get_run(run.info.run_id)
            if last.info.status == "RUNNING" and not provenance.is_alive(last.data.tags):
                self.end(run.info.run_id, "KILLED")

    def _add_metrics(self, run_id: str, wanted: History) -> bool:
        latest = self.client.get_run(run_id).data.metrics
        now = int(time.time() * 1000)
        lacking: list[Point] = []
        for name, values in wanted.items():
            there: set[int] = set()
            if name in latest and len(values) > 1:
                there = {point.step for point in self.client.get_metric_history(run_id, name)}
            elif name in latest and latest[name] in values.values():
                there = set(values)
            lacking += [Point(name, value, now, step) for step, value in values.items() if step not in there]
        self.log_points(run_id, lacking)
        return bool(lacking)

    def _add_inputs(self, run_id: str, digests: Mapping[str, str]) -> bool:
        from mlflow.entities import Dataset, DatasetInput
        from mlflow.exceptions import MlflowException

        for name, digest in digests.items():
            data = [DatasetInput(Dataset(name, digest, "local", json.dumps({"uri": name})))]
            try:
                self.client.log_inputs(run_id, data)
            except MlflowException as error:
                if error.error_code != "BAD_REQUEST":
                    raise
                # All runs on the same data share one row of it: another run was quicker to make that, so it is there.
                self.client.log_inputs(run_id, data)
        return bool(digests)

    def _add_files(self, run_id: str, folder: str, files: Sequence[Path]) -> bool:
        there = {item.path: item.file_size for item in self.client.list_artifacts(run_id, folder)}
        lacking = [path for path in files if there.get(f"{folder}/{path.name}") != path.stat().st_size]
        for path in lacking:
            self.client.log_artifact(run_id, str(path), folder)
        return bool(lacking)

    def _add_table(self, run_id: str, name: str, experiment: str) -> bool:
        """Log a table, once: logging it again would append it to itself."""
        file = f"{name}.json"
        if file in {item.path for item in self.client.list_artifacts(run_id)}:
            return False
        table = TABLES[name](experiment)
        if table is not None:
            self.client.log_table(run_id, table, file)
        return table is not None

    def _add_evaluated(self, run_id: str, projected: Projection) -> dict[str, bool]:
        """Log what only an evaluation has, also in the runs of the policies that it judged and in the registry."""
        execution = projected.execution
        self._describe(run_id, execution, outcome(execution.experiment))
        with address.alone():  # experiments of a queue may judge one reference, which has one run
            made_by = self._land(execution.experiment)
            champion = registry.show(self.client, self.uri, self.experiment_id, execution, made_by)
        return {
            **{name: self._add_table(run_id, name, execution.experiment) for name in TABLES},
            "report": projected.report is not None and self._add_report(run_id, projected.report),
            "champion": champion,
        }

    def _add_report(self, run_id: str, folder: Path) -> bool:
        """Log every file of the report where any has changed; their sizes alone would not tell."""
        digest = files_digest(folder, [path for path in folder.rglob("*") if path.is_file()])
        if self.client.get_run(run_id).data.tags.get(REPORT_DIGEST) == digest:
            return False
        self.client.log_artifacts(run_id, str(folder), REPORT)
        self.client.set_tag(run_id, REPORT_DIGEST, digest)
        return True

    def _land(self, experiment: str) -> dict[tuple[int, str], str]:
        """Log each policy's numbers in the run that made the policy, rebuilt where there is none; return these runs.

        They are named by seed and policy.
        """
        made_by = {}
        for landing in landings(experiment):
            made = landing.execution
            if absent := missing_results(made):
                logger.warning("tracking: no run of %s: %s is not on disk", made.lock_entry, absent[0])
                continue
            run_id, _ = self.ensure(made)
            self._add_metrics(run_id, {name: {0: value} for name, value in landing.metrics.items()})
            self._describe(run_id, made, landing.verdict)
            if made.seed is not None and made.method:
                made_by[made.seed, made.method] = run_id
        return made_by

    def _describe(self, run_id: str, execution: Execution, more: str) -> None:
        """Say in a run's description what came of it; one that somebody wrote by hand stays."""
        present = self.client.get_run(run_id).data.tags.get(NOTE, "")
        text = "\n\n".join(filter(None, (execution.sentence, more)))
        if text != present and (not present or present.startswith(execution.sentence)):
            self.client.set_tag(run_id, NOTE, text)


def _client(uri: str) -> "MlflowClient":
    _set_defaults()  # some are read by the import
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic", "urllib3"):  # their news of migrations and retries is told in one line of ours
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=uri)


def _set_defaults() -> None:
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)


def _new_experiment(client: "MlflowClient", uri: str, experiment: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.create_experiment(experiment, address.artifact_location(uri, experiment), KIND))
    except MlflowException:  # another stage was quicker on the same server
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise
        return str(found.experiment_id)


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
