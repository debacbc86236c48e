"""Small disks that can be filled: a process in a mount namespace of its own, where stages run as in tests/faults.

`small_disks` starts it, `serve` is its other side. One process serves all tests of a module: torch is imported once.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.conftest import Outcome, outputs, run

ROOT = Path(__file__).resolve().parents[2]
BALLAST = ".ballast"
PAGE = 4096  # what a tmpfs gives away at a time
UNSHARE = ("unshare", "--map-root-user", "--mount")


def why_not() -> str:
    """Return why no disk can be mounted here, "" where one can."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return "needs Linux's unshare"
    mount = 'mount -t tmpfs -o size=64k small "$0" && umount "$0"'
    done = subprocess.run([*UNSHARE, "sh", "-c", mount, str(ROOT)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"a tmpfs cannot be mounted: {done.stderr.strip()}"


class SmallDisks:
    """The tests' side: every method is done in the other process, in the folder that `enter` names."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def enter(self, folder: Path, **environment: str) -> None:
        """Work in this folder from now on."""
        self._call("enter", str(folder), environment)

    def mount(self, folder: str, kib: int) -> None:
        """Put a disk of this size under a folder of the workplace, with what is in the folder."""
        self._call("mount", folder, kib)

    def unmount(self, folder: str) -> None:
        """Take the disk away, and what is on it."""
        self._call("unmount", folder)

    def fill(self, folder: str, left: int = 0) -> None:
        """Fill the disk until as many KiB are left."""
        self._call("fill", folder, left)

    def make_room(self, folder: str) -> None:
        """Empty the disk again."""
        self._call("make_room", folder)

    def remove(self, path: str) -> None:
        """Remove a file or folder, which may lie on a disk."""
        self._call("remove", path)

    def run(self, stage: str, *axes: str) -> Outcome:
        """Run a stage there; a traceback comes as its text."""
        code, stderr, escaped = self._call("run", stage, *axes)
        return Outcome(code, stderr + escaped)

    def outputs(self) -> dict[str, str]:
        """Return every path and content below the output folders."""
        return {path: content for path, content in self._call("outputs").items() if Path(path).name != BALLAST}

    def _call(self, *call: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(call), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "the process in the namespace has ended"
        return json.loads(answer)


@contextmanager
def small_disks() -> Iterator[SmallDisks]:
    """Start the process; it ends with the block."""
    command = [*UNSHARE, sys.executable, "-m", "tests.faults.small_disks"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield SmallDisks(process)
    finally:
        process.communicate(timeout=30)  # it ends with its input, and its disks with it


# The other side: one function a method


def enter(folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)


def mount(folder: str, kib: int) -> None:
    kept = Path(f"{folder}.kept")
    Path(folder).mkdir(exist_ok=True)
    shutil.copytree(folder, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "small", folder], check=True)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    shutil.rmtree(kept)


def unmount(folder: str) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)  # a database may be open still


def fill(folder: str, left: int) -> None:
    free = os.statvfs(folder).f_bavail * PAGE
    with Path(folder, BALLAST).open("wb") as file:
        file.write(bytes(max(free - left * 1024, 0)))


def make_room(folder: str) -> None:
    Path(folder, BALLAST).unlink()


def remove(path: str) -> None:
    if Path(path).is_dir():
        shutil.rmtree(path)
    else:
        Path(path).unlink()


def run_stage(stage: str, *axes: str) -> tuple[int, str, str]:
    outcome = run(stage, *axes)
    escaped = f"Traceback: {outcome.traceback!r}" if outcome.traceback else ""
    return outcome.code, outcome.stderr, escaped


def serve() -> None:
    """Answer one call a line until there are no more."""
    import torch

    torch.set_num_threads(1)
    calls: dict[str, Callable[..., Any]] = {
        "enter": enter,
        "mount": mount,
        "unmount": unmount,
        "fill": fill,
        "make_room": make_room,
        "remove": remove,
        "run": run_stage,
        "outputs": outputs,
    }
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(calls[name](*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    serve()
