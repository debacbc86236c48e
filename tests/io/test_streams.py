"""Standard streams inside a stage: a library that closes its log's stream must not close the process's."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# absl, which rouge-score logs with, closes what its handler wrote to unless it is Python's own stream.
PROGRAM = """
import atexit, sys
atexit.register(lambda: print("after the log", file=sys.stderr))
from pipeline.io import process
with process.unbreakable():
    import absl.logging
    absl.logging.use_absl_handler()
    absl.logging.error("in the log")
    import logging
logging.shutdown()
sys.stderr.flush()
"""


def test_a_log_that_is_shut_down_leaves_the_stream_open() -> None:
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "in the log" in done.stderr and done.stderr.splitlines()[-1] == "after the log"
