"""How a stage ends: whatever a user or a machine does to it, in one line; a bug of ours with its traceback."""

import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "smollm2-rtp"
PATIENCE = 60  # seconds until a process that should have ended counts as stuck

STAGE = """
import errno, os, signal, sys, time
from pathlib import Path
from pipeline.apps.stage import Node, Stage, run_stage
from pipeline.io.records import write_json

def body(stage: Stage) -> None:
    write_json(Path("metrics/out.json"), {"a": 1})
    %s

run_stage("train", Node(("experiment", "seed", "method"), ("methods.{method}", "dev")), body, __doc__)
"""
WAIT = """
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("closing", flush=True)
        time.sleep(1)
        print("closed", flush=True)
"""
RAISES = {
    "python memory": ("raise MemoryError", "train_sft: out of memory; lower dev.batch_size or methods.sft.batch_size"),
    "cpu memory": (
        "import torch; torch.empty(2**50)",
        "train_sft: out of memory ([enforce fail at alloc_cpu.cpp",
    ),
    "cuda memory": (
        "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')",
        "train_sft: out of memory (CUDA out of memory. Tried to allocate 2 GiB); lower dev.batch_size",
    ),
    "system memory": ("raise OSError(errno.ENOMEM, 'Cannot allocate memory')", "train_sft: out of memory ("),
    "full disk": (
        "raise OSError(errno.ENOSPC, 'No space left on device', 'scratch/file')",
        "train_sft: scratch/file: No space left on device; make room there",
    ),
    "full disk, unnamed": ("raise OSError(errno.ENOSPC, 'No space left on device')", "train_sft: a file: No space"),
    "read only": (
        "raise OSError(errno.EROFS, 'Read-only file system', 'scratch')",
        "train_sft: scratch: Read-only file system; allow this user to read and write there",
    ),
    "not allowed": (
        "raise PermissionError(errno.EACCES, 'Permission denied', 'data/in')",
        "train_sft: data/in: Permission denied; allow this user to read and write there",
    ),
    "too many files": (
        "files = [open('/dev/null') for _ in range(10**6)]",
        "train_sft: /dev/null: Too many open files; raise the limit with `ulimit -n 4096`",
    ),
}
BUGS = {
    "a name": "missing",
    "a file of ours": "open('not there')",
    "torch": "raise RuntimeError('The size of tensor a (3) must match the size of tensor b (4)')",
    "assertion": "assert False, 'never'",
}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)


def start(action: str, *arguments: str, stderr: int = subprocess.PIPE, **more: Any) -> "subprocess.Popen[str]":
    """Start a stage that does this after its first output."""
    command = [sys.executable, "-c", STAGE % action, *(arguments or (EXPERIMENT, "0", "sft"))]
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "TRACKING": "off", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=stderr, text=True, **more)


def end(stage: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Return exit status, standard output and standard error."""
    stdout, stderr = stage.communicate(timeout=PATIENCE)
    return stage.returncode, stdout, stderr


def output() -> list[Path]:
    """Return what the stage left in its output folder."""
    return sorted(Path("metrics").glob("*")) + sorted(Path("metrics").glob(".*"))


def wait_for(stage: "subprocess.Popen[str]", line: str) -> None:
    assert stage.stdout is not None
    assert stage.stdout.readline() == f"{line}\n"


@pytest.mark.parametrize("lack", RAISES)
def test_what_a_machine_lacks_is_one_line_with_a_remedy(lack: str) -> None:
    action, message = RAISES[lack]
    code, _, stderr = end(start(action))
    assert code == 2
    assert stderr.startswith(message) and stderr.count("\n") == 1, stderr
    assert stderr.endswith("then run `dvc repro` again\n")
    assert output() == []


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_keeps_its_traceback_and_leaves_no_output(bug: str) -> None:
    code, _, stderr = end(start(BUGS[bug]))
    assert code == 1 and "Traceback" in stderr
    assert output() == []


@pytest.mark.parametrize(
    ("ending", "again"),
    [
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
        (signal.SIGHUP, signal.SIGINT),
    ],
)
def test_a_stage_that_is_ended_closes_what_it_opened_undisturbed(ending: signal.Signals, again: signal.Signals) -> None:
    stage = start(WAIT, preexec_fn=hear_everything)
    wait_for(stage, "ready")
    stage.send_signal(ending)
    wait_for(stage, "closing")
    stage.send_signal(again)
    code, stdout, stderr = end(stage)
    assert (code, stdout) == (128 + ending, "closed\n")
    assert stderr == ("train_sft: interrupted\n" if ending == signal.SIGINT else "")
    assert output() == []


def test_two_signals_at_the_same_moment_are_no_traceback() -> None:
    stage = start(WAIT, preexec_fn=hear_everything)
    wait_for(stage, "ready")
    for number in (signal.SIGSTOP, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
        stage.send_signal(number)
    code, _, stderr = end(stage)
    assert code in (128 + signal.SIGHUP, 128 + signal.SIGTERM) and stderr == ""


def hear_everything() -> None:
    """Undo what the tests' own starter may have chosen to ignore."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def test_a_stage_under_nohup_outlives_its_terminal() -> None:
    stage = start(WAIT.replace("60", "1"), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(stage, "ready")
    stage.send_signal(signal.SIGHUP)
    assert end(stage)[0] == 0
    assert output() == [Path("metrics/out.json")]


def test_ctrl_c_while_a_stage_still_imports_is_no_traceback() -> None:
    code = (
        "import signal, sys; sys.argv[0] = '-m'; import stages; print('ready', flush=True); import time; time.sleep(60)"
    )
    stage = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_everything,
    )
    wait_for(stage, "ready")
    stage.send_signal(signal.SIGINT)
    assert end(stage) == (-signal.SIGINT, "", "")


# Standard streams that go away

CHATTER = """
    import logging
    for number in range(50):
        print("progress", number, file=sys.stderr, flush=True)
        print("a line", flush=True)
        logging.getLogger("x").info("logged")
        time.sleep(0.01)
"""


def test_a_reader_that_has_gone_ends_no_stage() -> None:
    stage = start(CHATTER)
    assert stage.stdout is not None and stage.stderr is not None
    stage.stderr.close()
    stage.stdout.close()
    assert stage.wait(timeout=PATIENCE) == 0
    assert output() == [Path("metrics/out.json")]


def test_a_terminal_that_has_gone_ends_no_stage() -> None:
    terminal, other = pty.openpty()
    stage = start(CHATTER, stderr=other)
    os.close(other)
    os.read(terminal, 1)
    os.close(terminal)
    assert end(stage)[0] == 0
    assert output() == [Path("metrics/out.json")]


def test_a_log_on_a_full_disk_ends_no_stage() -> None:
    with open("/dev/full", "w") as full:
        stage = start(CHATTER, stderr=full.fileno())
        code, stdout, _ = end(stage)
    assert code == 0 and stdout.count("a line") == 50
    assert output() == [Path("metrics/out.json")]


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_end_no_stage_and_reach_no_file(closed: str) -> None:
    script = Path("stage.py")
    keep = "file = open('metrics/kept', 'w'); os.write(2, b'lost'); print('lost', file=sys.stderr)"
    script.write_text(STAGE % f"{keep}{CHATTER}")
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "TRACKING": "off"}
    command = f'exec "{sys.executable}" {script} {EXPERIMENT} 0 sft {closed}'
    assert subprocess.run(["sh", "-c", command], env=surroundings, timeout=PATIENCE, check=False).returncode == 0
    assert output() == [Path("metrics/kept"), Path("metrics/out.json")]
    assert Path("metrics/kept").read_text() == ""


# One writer


def test_a_second_stage_by_hand_is_refused_in_one_line_and_changes_nothing() -> None:
    first = start(WAIT)
    wait_for(first, "ready")
    code, _, stderr = end(start("pass"))
    assert code == 2 and stderr.count("\n") == 1
    assert stderr.startswith(f"train_sft: .locks/train_sft-{EXPERIMENT}-0: process {first.pid} is running this stage")
    assert not Path("metrics/out.json").exists()
    first.kill()
    first.communicate(timeout=PATIENCE)
    assert end(start("pass"))[0] == 0
    assert output() == [Path("metrics/out.json")], "what the killed one left is cleared up"


def test_locks_are_for_their_owner_alone() -> None:
    stage = start("pass", preexec_fn=lambda: os.umask(0))
    assert end(stage)[0] == 0
    assert Path(".locks").stat().st_mode & 0o077 == 0


def test_locks_that_cannot_be_made_are_one_line() -> None:
    Path(".locks").write_text("a file in the way")
    code, _, stderr = end(start("pass"))
    assert code == 2 and stderr.count("\n") == 1
    assert "train_sft: .locks/train_sft" in stderr and "remove what is in the way" in stderr
