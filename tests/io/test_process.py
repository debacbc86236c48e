"""One writer an output, real processes throughout."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.io import process
from pipeline.io.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30  # seconds until a process that should have ended counts as stuck

HOLD = """
import sys
from pipeline.io.process import exclusive
with exclusive("train-exp-0"):
    print("held", flush=True)
    sys.stdin.read()
"""

CHILD = """
import time
from pipeline.io.process import die_with_parent
die_with_parent()
print("ready", flush=True)
time.sleep(120)
"""

PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
time.sleep(120)
"""

TERMINATED = """
import time
from pipeline.io.process import exclusive, terminate_as_exit
terminate_as_exit()
try:
    with exclusive("stage"):
        print("ready", flush=True)
        time.sleep(120)
finally:
    print("closed", flush=True)
"""

CLOSING = """
import time
from pipeline.io.process import terminate_as_exit
terminate_as_exit()
try:
    print("ready", flush=True)
    time.sleep(120)
finally:
    print("closing", flush=True)
    time.sleep(1)
    print("closed", flush=True)
"""


def start(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a Python process in the working directory and wait for its first line."""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert started.stdout is not None and started.stdout.readline()
    return started


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_second_process_is_refused_and_told_which_is_the_first():
    first = start(HOLD)
    try:
        with pytest.raises(UserError, match=rf"train-exp-0: process {first.pid} is running this stage already"):
            with process.exclusive("train-exp-0"):
                pytest.fail("two writers")
        with process.exclusive("train-exp-1"):
            pass
    finally:
        first.communicate(timeout=PATIENCE)
    with process.exclusive("train-exp-0"):
        assert Path(".locks/train-exp-0").read_text() == str(os.getpid())


def test_a_process_that_was_killed_holds_nothing():
    first = start(HOLD)
    first.kill()
    first.communicate(timeout=PATIENCE)
    with process.exclusive("train-exp-0"):
        pass


def test_a_lock_is_given_back_after_an_error():
    with pytest.raises(ZeroDivisionError), process.exclusive("stage"):
        raise ZeroDivisionError
    with process.exclusive("stage"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_stage_dies_with_the_parent_that_is_killed():
    parent = start(PARENT, CHILD)  # the line is the child's, whose output is the parent's
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=PATIENCE)  # ends when the last process that holds the pipe does: the child


def test_a_terminated_stage_closes_what_it_opened():
    stage = start(TERMINATED)
    stage.send_signal(signal.SIGTERM)
    assert stage.communicate(timeout=PATIENCE)[0] == "closed\n"
    assert stage.returncode == 128 + signal.SIGTERM
    with process.exclusive("stage"):
        pass


def test_a_second_signal_does_not_interrupt_the_closing():
    stage = start(CLOSING)
    stage.send_signal(signal.SIGTERM)
    assert stage.stdout is not None and stage.stdout.readline() == "closing\n"
    stage.send_signal(signal.SIGTERM)
    assert stage.communicate(timeout=PATIENCE)[0] == "closed\n"
    assert stage.returncode == 128 + signal.SIGTERM
