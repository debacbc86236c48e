"""A small repository with every output of the experiment `smoke`, to be broken, and the stages that must refuse it.

The stages are started as `python -m stages.x` starts them, but in this process: hundreds of faults in the time that a
few Pythons need to import torch. Nothing is mocked; only the working directory changes.
"""

import ctypes
import hashlib
import io
import logging
import os
import re
import runpy
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.smoke.workspace import EXPERIMENT, OUTPUTS, POLICIES, build, command

COPIED = ("experiments", "sources", "params.yaml", "dvc.yaml", "env.json", *OUTPUTS)
LONGEST_MESSAGE = 1_500  # characters
# What a user can be told to do. One list for every fault: a message without one of these names no remedy.
REMEDIES = (
    "add allow check choose correct create delete disable give install keep leave lower make move name pass pin "
    "put quote raise re-download reinstall remove rename repair replace rerun run set split start train use wait write"
).split()
_REMEDY = re.compile(rf"(?<![\w.-])({'|'.join(REMEDIES)})(?![\w-])")
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Outcome:
    """How a stage ended; `traceback` is the exception that escaped, which a user would see as a traceback."""

    code: int
    stderr: str
    traceback: BaseException | None = None


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the repository after every stage of `smoke` has run once; change nothing."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads of tensors of 32 numbers only wait for each other
    workspace = build(tmp_path_factory.mktemp("faults") / "repository")
    with _inside(workspace.root):
        for stage in ("download", "format", "judge"):
            _succeed(stage, EXPERIMENT)
        for stage in ("reference", "preferences", "train_sft", "train_ppo", "train_dpo"):
            _succeed(stage, EXPERIMENT, "0")
        for stage in ("complete", "probe", "score"):
            for policy in POLICIES:
                _succeed(stage, EXPERIMENT, "0", policy)
        _succeed("evaluate", EXPERIMENT)
    yield workspace.root
    torch.set_num_threads(threads)


@pytest.fixture
def workplace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the finished repository, now the working directory, with tracking off; break what you like."""
    root = tmp_path / "repository"
    root.mkdir()
    for name in COPIED:
        source = finished / name
        if source.is_dir():
            shutil.copytree(source, root / name)
        else:
            shutil.copyfile(source, root / name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRACKING", "off")
    return root


def run(stage: str, *axes: str) -> Outcome:
    """Start a stage with these arguments as `python -m` does, in this process and working directory.

    It is named as in the DAG (train_sft); a command of another room is named whole, as in `pipeline.apps.report`.
    """
    module, *arguments = (stage, *axes) if "." in stage else command(stage, *axes)
    stderr = io.StringIO()
    code, escaped = 0, None
    with redirect_stderr(stderr), _arguments(module, *arguments), _logging_of_its_own(), _signals_restored():
        try:
            with warnings.catch_warnings():
                # runpy warns of a stage that a test imports; here it is executed afresh, which is what is wanted.
                warnings.filterwarnings("ignore", message=".*found in sys.modules", category=RuntimeWarning)
                runpy.run_module(module, run_name="__main__")
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        except Exception as error:  # what Python would print as a traceback, and end with 1
            code, escaped = 1, error
    return Outcome(code, stderr.getvalue(), escaped)


def refused(stage: str, *axes: str, names: tuple[str, ...] = ()) -> str:
    """Check that the stage refuses bad input as promised, and return its message.

    That is: exit code 2, one message of one line at the end of stderr that contains each of `names` and a remedy, no
    traceback, and every output byte for byte what it was. (A parameter file with several problems has a line for each.)
    """
    before = outputs()
    outcome = run(stage, *axes)
    if outcome.traceback is not None:
        raise AssertionError(f"{stage} ended in a traceback") from outcome.traceback
    assert outcome.code == 2, f"{stage} ended with {outcome.code}:\n{outcome.stderr}"
    assert "Traceback" not in outcome.stderr, outcome.stderr
    message = _message(stage, outcome.stderr)
    for name in names:
        assert name in message, f"{name!r} is not named in: {message}"
    assert _REMEDY.search(message), f"no remedy in: {message}"
    assert len(message) < LONGEST_MESSAGE, f"{len(message)} characters: {message}"
    after = outputs()
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    assert not changed, f"changed, created or lost: {changed}"
    return message


def _message(stage: str, stderr: str) -> str:
    """Return the one message: a line, and for a parameter file with several problems a line for each, naming it."""
    lines = stderr.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"{stage.rpartition('.')[2]}: ")]
    assert len(starts) == 1, stderr
    first, *more = lines[starts[0] :]
    assert all(line.startswith(("experiments/", "params.yaml: ")) for line in more), f"more than a line:\n{stderr}"
    return "\n".join([first, *more])


def outputs() -> dict[str, str]:
    """Return what lies below the output folders of the working directory: every path with its kind and content."""
    found = [path for folder in OUTPUTS for path in (Path(folder), *Path(folder).rglob("*"))]
    return {path.as_posix(): _content(path) for path in found if path.is_symlink() or path.exists()}


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if path.is_dir():
        return "folder"
    if not path.is_file():
        return "special"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _succeed(stage: str, *axes: str) -> None:
    outcome = run(stage, *axes)
    if outcome.traceback is not None:
        raise outcome.traceback
    assert outcome.code == 0, f"{stage} {axes}: {outcome.code}\n{outcome.stderr}"


@contextmanager
def _inside(root: Path) -> Iterator[None]:
    """Work in `root`, with tracking off."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TRACKING", "off")
        yield


@contextmanager
def _arguments(module: str, *arguments: str) -> Iterator[None]:
    previous, sys.argv = sys.argv, [f"{module.replace('.', '/')}.py", *arguments]
    try:
        yield
    finally:
        sys.argv = previous


@contextmanager
def _logging_of_its_own() -> Iterator[None]:
    """Give the root logger no handler, as in a fresh Python, so that the stage sets up its own."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers = []
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


@contextmanager
def _signals_restored() -> Iterator[None]:
    """Take back what a stage asks for its process: its own SIGTERM handler, and SIGTERM when the parent dies."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 0)
