"""Tracking among processes: switched off, side by side, and after one was killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking import runs
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
pytestmark = pytest.mark.usefixtures("repository")
TRAIN = """
import sys
from pipeline.tracking import runs
from tests.tracking import made_up as given
seed = int(sys.argv[1])
with runs.start("train_ppo", experiment=given.EXPERIMENT, seed=seed, params=given.params("train_ppo")) as run:
    for step, values in given.CURVES:
        run.log(step, values)
    given.leave_training("ppo", seed)
"""
BEGIN = f"""
import time
from pipeline.tracking import runs
with runs.start("train_ppo", experiment="{EXPERIMENT}", seed=0, params={{}}):
    print("begun", flush=True)
    time.sleep(600)
"""


def test_switched_off_imports_no_mlflow() -> None:
    code = given.STAGE + "import sys; assert 'mlflow' not in sys.modules"
    done = given.python(code, TRACKING="off", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.returncode, done.stdout, done.stderr) == (0, "worked\n", "")


def test_importing_tracking_imports_no_mlflow() -> None:
    done = given.python("import sys, pipeline.tracking.runs, pipeline.apps.track; assert 'mlflow' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_parallel_processes_on_a_fresh_database() -> None:
    Path("mlflow.db").unlink()
    command = [sys.executable, "-c", TRAIN]
    running = [
        subprocess.Popen([*command, str(seed)], env=given.surroundings(), stderr=subprocess.PIPE, text=True)
        for seed in range(3)
    ]
    errors = [process.communicate()[1] for process in running]
    assert errors == ["", "", ""]
    assert [process.returncode for process in running] == [0, 0, 0]
    found = given.runs()
    assert sorted((run.data.tags["seed"], run.info.status) for run in found) == [
        ("0", "FINISHED"),
        ("1", "FINISHED"),
        ("2", "FINISHED"),
    ]
    assert all(len(given.contents(run)["history"]["policy/loss"]) == len(given.CURVES) for run in found)


def test_the_run_of_a_killed_process_is_closed_by_the_next() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN], env=given.surroundings(), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    runs.Store.open(EXPERIMENT)
    assert [run.info.status for run in given.runs()] == ["RUNNING"]
    process.kill()
    process.wait()
    runs.Store.open(EXPERIMENT)
    assert [run.info.status for run in given.runs()] == ["KILLED"]
