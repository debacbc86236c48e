"""What a stage needs of its process: one writer per output, death with its parent, streams that may go away."""

import ctypes
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from pipeline.io.atomic import writing
from pipeline.io.errors import UserError

_PR_SET_PDEATHSIG = 1
_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies (Linux only).

    Killing `dvc` otherwise leaves the stage writing as an orphan while a new `dvc repro` starts a second writer.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died between the two calls
            os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold `.locks/<name>` for the block; raise UserError when another live process holds it.

    The kernel gives a lock back when its holder ends, however it ends.
    """
    path = Path(".locks") / name
    with writing(path):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = path.open("a+b", buffering=0)  # a buffer that cannot be written would be tried again at the end
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().decode(errors="replace").strip() or "unknown"
            raise UserError(f"{path}: process {holder} is running this stage already; wait for it or end it") from None
        with writing(path):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        yield


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for the next tensor instead of returning the pages to the kernel (Linux only).

    Activations come and go by the hundred megabytes; faulting their pages in again cost a fifth of a forward pass of
    a 135M-parameter model on two cores. Changes no result.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
        mallopt(_M_TOP_PAD, 256 * 2**20)


def terminate_as_exit() -> None:
    """Turn the first SIGTERM, SIGHUP or Ctrl-C into an exception, so that the stage closes what it opened.

    Whatever comes after it is ignored, since it would interrupt the closing: the kernel sends a SIGTERM for every
    thread of a parent that dies, and people press Ctrl-C twice. What the starter chose to ignore (`nohup`) stays so.
    """
    leaving = False

    def leave(number: int, _: object) -> None:
        nonlocal leaving
        if leaving:  # SIG_IGN instead makes Python print a traceback for a signal that came at the same moment
            return
        leaving = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    for ending in _ENDINGS:
        if ending == signal.SIGTERM or signal.getsignal(ending) != signal.SIG_IGN:
            signal.signal(ending, leave)


def end_silently() -> None:
    """Let Ctrl-C end this process without a traceback, as long as there is nothing to close."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def keep_private(*folders: Path) -> None:
    """Take from everyone but the owner what rights they have in those folders that exist.

    Raises UserError where others may write to one and this user cannot change that.
    """
    for folder in folders:
        mode = folder.stat().st_mode if folder.exists() else 0o700
        if mode & 0o077:
            try:
                folder.chmod(stat.S_IMODE(mode) & 0o700)
            except PermissionError:
                if mode & 0o022:
                    raise UserError(
                        f"{folder}: expected a folder that nobody but its owner can write to, since what lies there is "
                        f"trusted; let its owner run `chmod 700 {folder}`"
                    ) from None


@contextmanager
def unbreakable() -> Iterator[None]:
    """Let both streams fall silent inside the block where their reader is gone, their disk full or they are closed.

    A training of hours must not end because `| head` or the log's disk did.
    """
    _fill_gaps()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _unbreakable(before[0], 1), _unbreakable(before[1], 2)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _fill_gaps() -> None:
    """Open what `2>&-` has closed: else the next file that is opened would get the messages."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
            os.set_inheritable(number, True)


def _unbreakable(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # it was closed when Python started
        stream = os.fdopen(number, "w", closefd=False)
    return cast(TextIO, _Unbreakable(stream))


class _Unbreakable:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if it can be."""
        try:
            return self._stream.write(text)
        except OSError:
            self._fall_silent()
            return len(text)

    def flush(self) -> None:
        """Flush, if it can be."""
        try:
            self._stream.flush()
        except OSError:
            self._fall_silent()

    def close(self) -> None:
        """Flush alone: what took this for a stream of its own (absl's logging does) must not close the process's."""
        self.flush()

    def _fall_silent(self) -> None:
        # The buffer keeps what could not be written: Python would try again at its end, and exit with 120.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
