"""Trainings at the same time, into one sqlite store and through one server with one worker: every point is counted.

`make train -j3` and `dvc exp run --queue` with two workers, as a user would start them. In both ways each store is a
fresh one, so that its first use is parallel too.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path

import pytest

from pipeline.io import paths
from pipeline.tracking.description import History, read_curves, shown_numbers
from tests.smoke import store
from tests.smoke.conftest import WholeRun
from tests.smoke.store import SeenRun
from tests.smoke.workspace import DVC, EXPERIMENT, POLICIES, Workspace, build, stages
from tests.tracking.server import free_port, start_server, stop

METHODS = POLICIES[1:]
TRAININGS = [f"train_{method}@{EXPERIMENT}-0" for method in METHODS]
# Every experiment changes every training, so that none comes from DVC's run cache without a run.
QUEUED = {
    f"queued-{number}": {"methods.sft.epochs": number, "methods.ppo.steps": number + 1, "methods.dpo.epochs": number}
    for number in (1, 2, 3)
}
PATIENCE = 300  # seconds until a queue that should be done counts as stuck; a busy machine is slow
STORES = ("sqlite", "server")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> Workspace:
    """Return a working copy in which all that trainings of several experiments share is there; change nothing."""
    workspace = build(tmp_path_factory.mktemp("concurrent") / "ready")
    # The stages that queued experiments share, too: DVC's run cache fails the second of two workers that end the same
    # stage at the same moment (it looks at a file that the first has just renamed).
    shared = [f"{stage}@{EXPERIMENT}-0-reference" for stage in ("score", "probe")]
    targets = [f"preferences@{EXPERIMENT}-0", f"judge@{EXPERIMENT}", *shared]
    workspace.started_by(python_folder).repro(*targets, TRACKING="off")
    workspace.commit()
    return workspace


@contextmanager
def served(kind: str, workspace: Workspace) -> Iterator[dict[str, str]]:
    """Yield the environment in which stages find the store: none for the default, or the URI of a server."""
    if kind == "sqlite":
        yield {}
        return
    port, folder = free_port(), workspace.root.with_name("served")
    folder.mkdir()
    server = start_server(port, folder)
    try:
        # The proxy of the tests, which is not there, is not for loopback.
        yield {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    finally:
        stop(server)


def find_runs(workspace: Workspace, environment: dict[str, str]) -> list[SeenRun]:
    """Return all runs; `store` fails where a point was logged twice."""
    seen = store.runs(environment.get("MLFLOW_TRACKING_URI") or store.uri(workspace.root))
    assert {run.status for run in seen} == {"FINISHED"}
    assert not [run.name for run in seen if "rebuilt" in run.tags and run.name in METHODS]
    return seen


def on_disk(root: Path, method: str) -> History:
    """Return every point that a training left in its CSV and JSON."""
    with chdir(root):
        curves = read_curves(paths.curves(EXPERIMENT, 0, method))
        numbers = json.loads(paths.metrics(EXPERIMENT, method, 0).read_text())
    finals = shown_numbers(f"train_{method}", numbers)
    return curves | {f"final/{name}" if name in curves else name: {0: value} for name, value in finals.items()}


def shown(run: SeenRun) -> History:
    """Return every point of a run that its training left on disk: not those of `time/` and of the evaluation."""
    judged = ("time/", "evaluation/", "toxicity_", "guards_passed")
    return {name: points for name, points in run.history.items() if not name.startswith(judged)}


def count(history: History) -> int:
    """Return the number of points."""
    return sum(len(points) for points in history.values())


@pytest.mark.parametrize("kind", STORES)
def test_three_trainings_at_once_lose_no_point_and_run_no_second_time(
    kind: str, ready: Workspace, whole: WholeRun, python_folder: Path, tmp_path: Path
) -> None:
    workspace = ready.copy(tmp_path / "parallel")
    warm = workspace.started_by(python_folder)
    with served(kind, workspace) as environment:
        train_at_once(workspace if kind == "sqlite" else warm, environment)
        if kind == "sqlite":
            rest = set(warm.repro(**environment))
            assert rest & set(TRAININGS) == set()
            assert f"evaluate@{EXPERIMENT}" in rest and rest < stages()
            assert workspace.outputs() == whole.workspace.outputs()
        seen = store.by_name(find_runs(workspace, environment))
    expected = {method: on_disk(workspace.root, method) for method in METHODS}
    assert {method: shown(seen[method]) for method in METHODS} == expected
    assert min(map(count, expected.values())) > 40
    print(kind, "train -j3:", len(METHODS), "runs,", sum(map(count, expected.values())), "points expected and found")


def train_at_once(workspace: Workspace, environment: dict[str, str]) -> None:
    """Start the three trainings as `make train -j3` does."""
    running = [
        subprocess.Popen(
            [*DVC, "--wait-for-lock", "repro", "-s", training],
            cwd=workspace.root,
            env=workspace.surroundings(OMP_WAIT_POLICY="passive", **environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for training in TRAININGS
    ]
    printed = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], "\n".join(printed)
    assert_nothing_failed(printed)


@pytest.mark.parametrize("kind", STORES)
def test_queued_experiments_with_two_workers_lose_no_point(
    kind: str, ready: Workspace, python_folder: Path, tmp_path: Path
) -> None:
    # DVC starts its workers by name: `dvc` must be on the PATH, as `make` and an active environment have it.
    if not (python_folder / "dvc").exists():
        os.symlink(Path(sys.executable).with_name("dvc"), python_folder / "dvc")
    workspace = ready.copy(tmp_path / "queued").started_by(python_folder)
    workspace.dvc("config", "--local", "core.site_cache_dir", str(workspace.root / ".dvc-state"))  # as `make setup`
    targets = [f"evaluate@{EXPERIMENT}"] if kind == "sqlite" else TRAININGS
    with served(kind, workspace) as environment:
        for name, changed in QUEUED.items():
            overrides = [f"experiments/{EXPERIMENT}.yaml:{key}={value}" for key, value in changed.items()]
            options = [part for override in overrides for part in ("-S", override)]
            workspace.dvc("exp", "run", "--queue", "--name", name, *options, *targets)
        work_off_the_queue(workspace, environment)
        seen = find_runs(workspace, environment)
    found, expected = {}, {}
    for name, changed in QUEUED.items():
        commit = commit_of(workspace, name, tmp_path / name)
        for method in METHODS:
            key = next(key for key in changed if key.startswith(f"methods.{method}."))
            (run,) = (run for run in seen if run.name == method and run.params[key] == str(changed[key]))
            found[name, method], expected[name, method] = shown(run), on_disk(commit, method)
            if kind == "sqlite":
                assert run.history["evaluation/consonants/toxicity_mean"].keys() == {0}
    assert found == expected
    assert [path.name for path in workspace.root.glob("mlflow.db")] == (["mlflow.db"] if kind == "sqlite" else [])
    total = sum(map(count, expected.values()))
    print(kind, "queue -j2:", len(expected), "trainings of", len(seen), "runs,", total, "points expected and found")


def work_off_the_queue(workspace: Workspace, environment: dict[str, str]) -> None:
    """Let two workers run all that is queued, and wait until they have."""
    # The workers keep its streams: a pipe would end with the last of them.
    command, surroundings = [*DVC, "queue", "start", "--jobs", "2"], workspace.surroundings(**environment)
    silence = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=workspace.root, env=surroundings, check=True, **silence)
    try:
        for _ in range(PATIENCE // 2):
            time.sleep(2)
            # It fails where a worker is writing what it reads.
            status = workspace.run(*DVC, "queue", "status").stdout
            states = re.findall(r"^\w{7} +queued-\d .*?(\w+)$", status, re.MULTILINE)
            # One that passes from one list to the other is in none for a moment.
            if len(states) == len(QUEUED) and set(states) <= {"Success", "Failed"}:
                break
        logs = [workspace.dvc("queue", "logs", name) for name in QUEUED]
        assert set(states) == {"Success"}, "\n".join(logs)
        assert_nothing_failed(logs)
    finally:
        workspace.run(*DVC, "queue", "stop", "--kill")


def assert_nothing_failed(printed: Sequence[str]) -> None:
    """Fail with what stages say of a store that failed them: a run that is completed later would hide it."""
    assert re.findall("^tracking: .* failed .*$", "\n".join(printed), re.MULTILINE) == []


def commit_of(workspace: Workspace, name: str, folder: Path) -> Path:
    """Lay out what an experiment committed in the new `folder`, and return it."""
    (reference,) = workspace.git("for-each-ref", "--format=%(refname)", f"refs/exps/**/{name}").splitlines()
    folder.mkdir()
    archive = folder / "archive.tar"
    workspace.git("archive", "--output", str(archive), reference, "metrics", "plots")
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    return folder
