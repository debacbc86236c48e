"""What is left of memory: the tightest of all bounds, version 1 and 2 of control groups among them."""

import resource
from pathlib import Path

import pytest

from pipeline.io import machine

GIB = 2**30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """Write a /proc of a machine that has 8 GiB free."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * 2**20} kB\n")
    return tmp_path / "proc"


def found(proc: Path, cgroup: str, files: dict[str, str]) -> machine.AvailableMemory:
    (proc / "self" / "cgroup").write_text(cgroup)
    root = proc.parent / "cgroup"
    for place, text in files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    left = machine.host(proc, root)
    assert left is not None
    return left


def test_without_a_bound_it_is_what_the_machine_has(proc: Path) -> None:
    left = found(proc, "0::/a\n", {"a/memory.max": "max\n", "a/memory.current": f"{GIB}\n"})
    assert left.bytes == 8 * GIB and "machine" in left.bound


def test_a_group_leaves_its_bound_less_what_cannot_be_given_back(proc: Path) -> None:
    files = {
        "memory.max": f"{4 * GIB}",
        "memory.current": f"{3 * GIB}",
        "memory.stat": f"anon 1\ninactive_file {GIB}\n",
    }
    left = found(proc, "0::/a/b\n", {f"a/{name}": text for name, text in files.items()})
    assert left.bytes == 2 * GIB and "a/memory.max" in left.bound


def test_version_1_counts_too(proc: Path) -> None:
    files = {"memory/a/memory.limit_in_bytes": f"{2 * GIB}", "memory/a/memory.usage_in_bytes": f"{GIB}"}
    files |= {"memory/memory.limit_in_bytes": "9223372036854771712"}
    left = found(proc, "5:cpu:/a\n4:memory:/a\n", files)
    assert left.bytes == GIB


def test_a_limit_on_addresses_counts_too(proc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3 * GIB, resource.RLIM_INFINITY))
    left = found(proc, "0::/\n", {"x": ""})
    assert left.bytes == 3 * GIB - machine.UNUSED_ADDRESSES and "ulimit" in left.bound
