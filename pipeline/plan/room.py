"""How much memory this machine can still give a process, by whatever bounds it."""

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

NO_BOUND = 2**60  # bytes; cgroup v1 writes a number of this order where there is no bound
UNUSED_ADDRESSES = 1100 * 10**6  # bytes that a stage asks for and never uses: maps of files, stacks; measured


class Room(NamedTuple):
    """So many bytes are left, and what bounds them, in words for a message."""

    bytes: int
    bound: str


def host(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> Room | None:
    """Return the tightest bound on the machine's memory; None where nothing tells it."""
    found = [*_available(proc), *_control_groups(proc, cgroups), *_addresses()]
    return min(found, default=None)


def device() -> Room | None:
    """Return what the GPU in use has free; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    return Room(free, f"{torch.cuda.get_device_name()} has free")


def _available(proc: Path) -> Iterator[Room]:
    try:
        lines = (proc / "meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("MemAvailable:"):
            yield Room(int(line.split()[1]) * 1024, "this machine has free")


def _control_groups(proc: Path, root: Path) -> Iterator[Room]:
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


def _groups(root: Path, place: str, most: str, used: str) -> Iterator[Room]:
    folder = root / place.lstrip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            return
        limit = _number(group / most)
        if limit is not None and limit < NO_BOUND:
            # Of what is used, files in the cache are given back when they are in the way.
            taken = max(0, (_number(group / used) or 0) - _cached(group))
            yield Room(max(0, limit - taken), f"the control group's bound ({group / most}) leaves")


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


def _addresses() -> Iterator[Room]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        yield Room(max(0, soft - UNUSED_ADDRESSES), "the limit on addresses (`ulimit -v`) leaves")
