"""L0: standard output and error that may go away: nobody reads a message that cannot be written, and no work ends."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast


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
