"""L0: what a machine can lack (memory, disk, permission, open files), told in one message instead of a traceback."""

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pipeline.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_TOO_MANY = {errno.EMFILE, errno.ENFILE}
# What torch says of the memory of CPU and CUDA where it raises a plain RuntimeError.
_OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory|std::bad_alloc|_ALLOC_FAILED"
)
AGAIN = "then run `dvc repro` again"


@contextmanager
def limits(parameters: Iterable[str]) -> Iterator[None]:
    """Raise UserError where the block fails for want of memory, disk, permission or open files; all else passes.

    `parameters` are the dotted keys of what the block was told to do: the sizes of batches among them are named.
    """
    try:
        yield
    except (OSError, MemoryError, RuntimeError) as error:
        message = _memory(error, parameters) if _is_out_of_memory(error) else _system(error)
        if message is None:
            raise
        raise UserError(message) from error


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    torch = sys.modules.get("torch")  # where it is not loaded, it has not raised
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def _memory(error: Exception, parameters: Iterable[str]) -> str:
    sizes = sorted(key for key in parameters if key.endswith(("batch_size", "micro_batch_size")))
    lower = f"lower {' or '.join(sizes)} in the experiment's file, " if sizes else ""
    reason = " ".join(str(error).split())[:200]
    return (
        f"out of memory{f' ({reason})' if reason else ''}; {lower}end other programs or use a machine with more "
        f"memory, {AGAIN}"
    )


def _system(error: Exception) -> str | None:
    if not isinstance(error, OSError) or error.errno is None:
        return None
    name = error.filename if isinstance(error.filename, str | bytes) else None
    place = os.fsdecode(name) if name is not None else "a file"
    if error.errno in _FULL:
        return f"{place}: {error.strerror}; make room there and in the folder for temporary files, {AGAIN}"
    if error.errno in _FORBIDDEN and name is not None:
        return f"{place}: {error.strerror}; allow this user to read and write there, {AGAIN}"
    if error.errno in _TOO_MANY:
        return f"{place}: {error.strerror}; raise the limit with `ulimit -n 4096` or end other programs, {AGAIN}"
    return None
