"""What a machine can lack (memory, disk, permission, open files), and how much memory it has left."""

import errno
import os
import re
import resource
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.io.errors import UserError

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


NO_BOUND = 2**60  # bytes; cgroup v1 writes a number of this order where there is no bound
UNUSED_ADDRESSES = 1100 * 10**6  # bytes that a stage asks for and never uses: maps of files, stacks; measured


class AvailableMemory(NamedTuple):
    """So many bytes are left, and what bounds them, in words for a message."""

    bytes: int
    bound: str


def host(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> AvailableMemory | None:
    """Return the tightest bound on the machine's memory; None where nothing tells it."""
    found = [*_available(proc), *_control_groups(proc, cgroups), *_addresses()]
    return min(found, default=None)


def device() -> AvailableMemory | None:
    """Return what the GPU in use has free; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    return AvailableMemory(free, f"{torch.cuda.get_device_name()} has free")


def _available(proc: Path) -> Iterator[AvailableMemory]:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("MemAvailable:"):
            yield AvailableMemory(int(line.split()[1]) * 1024, "this machine has free")


def _control_groups(proc: Path, root: Path) -> Iterator[AvailableMemory]:
    """Yield what the control group and those around it leave: version 2, then version 1's memory controller."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, place = line.split(":", 2)
        if not controllers:
            yield from _groups(root, place, "memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            yield from _groups(root / "memory", place, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _groups(root: Path, place: str, most: str, used: str) -> Iterator[AvailableMemory]:
    folder = root / place.lstrip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            return
        limit = _number(group / most)
        if limit is not None and limit < NO_BOUND:
            # Of what is used, files in the cache are given back when they are in the way.
            taken = max(0, (_number(group / used) or 0) - _cached(group))
            yield AvailableMemory(max(0, limit - taken), f"the control group's bound ({group / most}) leaves")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # `max`: no bound
        return None


def _cached(group: Path) -> int:
    try:
        lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counts = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return max(int(counts.get(key, "0")) for key in ("inactive_file", "total_inactive_file"))


def _addresses() -> Iterator[AvailableMemory]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield AvailableMemory(max(0, soft - UNUSED_ADDRESSES), "the limit on addresses (`ulimit -v`) leaves")
