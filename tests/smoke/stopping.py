"""A stage or its dvc, stopped at a chosen call and then sent a signal.

`score` stands for the stages that are no training (trainings: test_interruptions.py, test_resume.py). The stopping is
done by an audit hook from outside, at a call that the process makes anyway; what is sent to it there is real.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.smoke.workspace import DVC, EXPERIMENT, Workspace, command

PATIENCE = 120  # seconds until something that should have happened counts as failed
AXES = (EXPERIMENT, "0", "ppo")
STAGE = f"score@{EXPERIMENT}-0-ppo"
OUTPUT = Path("scores") / EXPERIMENT / "0" / "ppo.jsonl"
COMMAND = ["python", "-m", "stages.score", *AXES]

# Put in front of every Python below: stops it where an audited call names what STOP_AT names, until STOPPED is removed.
STOP = """
import os, sys, time
call, _, words = os.environ.get("STOP_AT", "").partition(" ")

def stop(event, arguments, busy=[]):
    if event == call and not busy and all(word in str(arguments[:2]) for word in words.split()):
        busy.append(True)
        open(os.environ["STOPPED"], "x").close()
        while os.path.exists(os.environ["STOPPED"]):
            time.sleep(0.01)

sys.addaudithook(stop)
"""
IMPORTING = "import pipeline.evaluation.score"
WRITING = "open /.ppo.jsonl. .tmp 'w'"
TAKING_ITS_PLACE = "os.rename /.ppo.jsonl."
REMEMBERING = "open .dvc/cache/runs .tmp"  # these three are dvc's: the stage has ended
CACHING = "shutil.copyfile scores/ .dvc/cache/files"
RECORDING = "open dvc.lock 'w+'"


@contextmanager
def stopped(
    workspace: Workspace, moment: str, stage: str = STAGE, **environment: str
) -> Iterator["subprocess.Popen[str]"]:
    """Start `dvc repro` of a stage in a process group of its own, and enter the block when the moment has come."""
    outside = workspace.root.parent
    (outside / "sitecustomize.py").write_text(STOP)
    mark = outside / "stopped"
    names = {"STOP_AT": moment, "STOPPED": str(mark), "PYTHONPATH": str(outside), "TRACKING": "off"}
    with (outside / "log.txt").open("w") as log:
        dvc = subprocess.Popen(
            [*DVC, "repro", "-s", stage],
            cwd=workspace.root,
            env=workspace.surroundings(**names | environment),
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
            preexec_fn=hear_everything,
        )
    try:
        wait_until(lambda: mark.exists() or dvc.poll() is not None, moment)
        assert dvc.poll() is None, said(workspace)
        yield dvc
    finally:
        mark.unlink(missing_ok=True)
        for process in stages_of(workspace):
            process.kill()
        dvc.kill()
        dvc.wait()


def hear_everything() -> None:
    """Undo that a shell lets its background jobs, and whatever they start, ignore Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def said(workspace: Workspace) -> str:
    """Return what dvc and its stage printed."""
    return (workspace.root.parent / "log.txt").read_text(errors="replace")


def stages_of(workspace: Workspace, stage: str = "score") -> list[psutil.Process]:
    """Return the processes of a stage that work in this working copy, whoever their parent is."""
    root, found, words = str(workspace.root.resolve()), [], set(command(stage))
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        is_stage = words <= set(process.info["cmdline"] or [])
        if is_stage and process.info["cwd"] == root and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition to come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


def send(number: signal.Signals, to: str, dvc: "subprocess.Popen[str]", workspace: Workspace) -> None:
    """Send a signal to the stage, to dvc, or to both as a terminal or a power cut does."""
    if to == "group":
        os.killpg(dvc.pid, number)
    elif to == "dvc":
        dvc.send_signal(number)
    else:
        (stage,) = stages_of(workspace)
        stage.send_signal(number)
