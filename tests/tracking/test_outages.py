"""A real MLflow server that breaks in every way at every moment: no training is lost, and `make track` tells the rest.

One server behind one proxy serves all cases, a seed for each. They are trained by one process, which is gone when
`make track` is called twice; the tests look at what was there before, between and after.
"""

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.apps import track
from pipeline.io import paths
from pipeline.tracking.description import read_curves
from tests.tracking import made_up as given
from tests.tracking.proxy import OUTAGES, Proxy, proxied
from tests.tracking.server import free_port, start_server, stop
from tests.tracking.trainer import METHOD, STAGE, STEPS, TIMED, Trainer, trainer

EXPERIMENT = given.EXPERIMENT
HASTE = {  # what a user may set: the tests need not wait as long as a training would
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
}
# Where an outage strikes: the request that it begins with.
AT_THE_START = {"first question": "experiments/get-by-name", "run": "runs/create", "parameters": "runs/log-batch"}
AT_THE_END = {"completing": "runs/set-tag", "artifact": "adapter_model.safetensors", "FINISHED": "runs/update"}
KILLED = ("killed", "points")
UNHURT = ("no outage", "")
REFUSED = list(product(OUTAGES, AT_THE_START))
PASSING = [(outage, "points, and over before the end") for outage in OUTAGES]
LASTING = [*product(OUTAGES, ("points", *AT_THE_END)), KILLED]
CASES = [UNHURT, *REFUSED, *PASSING, *LASTING]
TRAINED = [UNHURT, *PASSING, *LASTING]
Case = tuple[str, str]
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Seen:
    """One run, as plain values; `history` holds every point that was logged, twice where it was logged twice."""

    run_id: str
    status: str
    history: dict[str, list[tuple[int, float]]]
    artifacts: dict[str, str]


@dataclass
class Told:
    """What became of one case: a message where it was refused, what its training logged, its runs at three times."""

    seed: int
    refusal: str = ""
    ended: dict[str, Any] = field(default_factory=dict)
    before: list[Seen] = field(default_factory=list)
    after: list[Seen] = field(default_factory=list)
    again: list[Seen] = field(default_factory=list)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Iterator[dict[Case, Told]]:
    """Yield what became of every case."""
    saved, port = dict(os.environ), free_port()
    for name in [name for name in os.environ if name.startswith("MLFLOW_") or name == "TRACKING"]:
        del os.environ[name]
    with chdir(tmp_path_factory.mktemp("outages")):
        given.lay_out()
        given.write_roster(list(range(len(CASES))))
        given.leave_inputs()
        shutil.copy(migrated_database, "mlflow.db")
        servers = [start_server(port)]
        try:
            with proxied(port) as proxy:
                os.environ["MLFLOW_TRACKING_URI"] = proxy.uri
                cases = {case: Told(seed) for seed, case in enumerate(CASES)}
                with trainer(proxy.uri, **HASTE) as process:
                    for case, found in cases.items():
                        if case == KILLED:
                            dies_while_training(servers, port, process, found)
                        else:
                            suffer(case, proxy, process, found)
                look(cases, "before")
                track.rebuild(EXPERIMENT)
                look(cases, "after")
                track.rebuild(EXPERIMENT)
                look(cases, "again")
            yield cases
        finally:
            for server in servers:
                stop(server)
            os.environ.clear()
            os.environ.update(saved)


def suffer(case: Case, proxy: Proxy, process: Trainer, found: Told) -> None:
    """Train with an outage."""
    outage, moment = case
    if moment in AT_THE_START:
        proxy.begin(outage, AT_THE_START[moment])
    found.refusal = process.begin(found.seed)
    if not found.refusal:
        if moment.startswith("points"):
            proxy.begin(outage)
        process.train()
        if moment in AT_THE_END:
            proxy.begin(outage, AT_THE_END[moment])
        elif moment != "points":
            proxy.end()
        found.ended = process.end()
    proxy.end()


def dies_while_training(servers: list[Any], port: int, process: Trainer, found: Told) -> None:
    """Train with a server that is killed in the middle, and start another in its place."""
    assert process.begin(found.seed) == ""
    os.killpg(servers[-1].pid, signal.SIGKILL)
    servers[-1].wait()
    process.train()
    found.ended = process.end()
    servers.append(start_server(port))


def look(cases: Mapping[Case, Told], when: str) -> None:
    """Note the runs of every case."""
    for found in cases.values():
        setattr(found, when, seen(found.seed))


def seen(seed: int, served: Path = Path("server")) -> list[Seen]:
    """Return the training's runs with this seed, oldest first."""
    client = given.client()
    runs = []
    for run in reversed(given.runs(stage=STAGE, seed=str(seed))):
        run_id = run.info.run_id
        folder = served / run.info.experiment_id / run_id / "artifacts"
        points = {name: client.get_metric_history(run_id, name) for name in run.data.metrics}
        history = {name: sorted((point.step, point.value) for point in points[name]) for name in points}
        files = {str(file.relative_to(folder)): digest(file) for file in folder.rglob("*") if file.is_file()}
        runs.append(Seen(run_id, run.info.status, history, files))
    return runs


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_whole(run: Seen, seed: int) -> None:
    """Compare a run with what the training left on disk: every step of every metric once, and every file."""
    curves = read_curves(paths.curves(EXPERIMENT, seed, METHOD))
    on_disk = {name: sorted(points.items()) for name, points in curves.items()}
    assert {len(points) for points in on_disk.values()} == {STEPS}
    finals = {"objective/kl": [(0, 2.5)], "final/objective/score": [(0, 0.75)], "pairs": [(0, 7.0)]}
    assert {name: points for name, points in run.history.items() if name != TIMED} == on_disk | finals
    folder = paths.adapter(EXPERIMENT, seed, METHOD)
    names = ("adapter_config.json", "adapter_model.safetensors")
    assert run.artifacts == {f"adapter/{name}": digest(folder / name) for name in names}
    assert run.status == "FINISHED"


@pytest.mark.parametrize("case", REFUSED, ids=" at the ".join)
def test_at_the_start_it_is_one_clear_line_and_no_training(case: Case, told: dict[Case, Told]) -> None:
    refusal = told[case].refusal
    assert refusal.startswith("tracking: http://127.0.0.1:") and "\n" not in refusal
    assert "cannot be used" in refusal and "TRACKING=off" in refusal and "make track" in refusal
    assert not told[case].ended
    assert [run.history for run in told[case].again if run.history] == []
    assert {run.status for run in told[case].again} <= {"KILLED"}  # none goes on for ever


def test_no_outage_costs_no_warning(told: dict[Case, Told]) -> None:
    assert told[UNHURT].ended["warnings"] == []
    assert_whole(told[UNHURT].before[0], told[UNHURT].seed)


@pytest.mark.parametrize("case", [*PASSING, *LASTING], ids=" at the ".join)
def test_later_it_is_one_warning_and_no_training_is_lost(case: Case, told: dict[Case, Told]) -> None:
    (warning,) = told[case].ended["warnings"]
    assert warning.startswith("tracking: http://127.0.0.1:") and "make track" in warning
    assert paths.curves(EXPERIMENT, told[case].seed, METHOD).exists()


@pytest.mark.parametrize("case", PASSING, ids=" at the ".join)
def test_what_was_missed_while_it_lasted_is_sent_at_the_end(case: Case, told: dict[Case, Told]) -> None:
    (run,) = told[case].before
    assert_whole(run, told[case].seed)
    assert [step for step, _ in run.history[TIMED]] == list(range(STEPS))  # what is nowhere on disk too
    assert "complete" in told[case].ended["news"][0]


@pytest.mark.parametrize("case", TRAINED, ids=" at the ".join)
def test_track_tells_the_rest_in_the_same_run_and_nothing_twice(case: Case, told: dict[Case, Told]) -> None:
    (before,), (after,) = told[case].before, told[case].after
    assert_whole(after, told[case].seed)
    assert after.run_id == before.run_id
    assert [step for step, _ in after.history.get(TIMED, [])] == [step for step, _ in before.history.get(TIMED, [])]


def test_track_again_changes_nothing(told: dict[Case, Told]) -> None:
    assert [case.again for case in told.values()] == [case.after for case in told.values()]
