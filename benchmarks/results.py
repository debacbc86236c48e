"""What every benchmark's result holds: the machine, the versions, the runs and their ratios."""

import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.io import records

FOLDER = Path("benchmarks") / "results"

Summary = dict[str, float]


def summary(values: Sequence[float]) -> Summary:
    """Return median, min and max of at least one value."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> Summary:
    """Return the summary of the ratios of neighbours, one a repetition, so that a drift of the machine cancels."""
    return summary([above / below for above, below in zip(numerators, denominators, strict=True)])


def spread(found: Summary) -> str:
    """Return a summary as `median [min, max]`, short enough for a table."""
    median, low, high = (_short(found[key]) for key in ("median", "min", "max"))
    return f"{median} [{low}, {high}]"


def cores() -> int:
    """Return how many CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """Describe the hardware without naming the host: CPU model, usable cores, memory in GiB."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cpu": _cpu_model(), "cores": cores(), "memory_gib": round(pages / 2**30, 1), "system": platform.system()}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of Python and of the installed packages, without local suffixes such as +cpu."""
    found = {name: metadata.version(name).partition("+")[0] for name in packages}
    return {"python": platform.python_version()} | found


def peak_memory_mib() -> float:
    """Return the most memory this whole process has held so far, in MiB: libraries, weights and all."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
        return int(lines["VmHWM"].split()[0]) / 2**10
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write one benchmark's result (design: machine, versions, runs, ratios) whole or not at all; return its path."""
    missing = {"machine", "versions", "runs", "ratios"} - result.keys()
    if missing:
        raise ValueError(f"a benchmark's result lacks {sorted(missing)}")
    path = FOLDER / f"{name}.json"
    records.write_json(path, result)
    return path


def _short(value: float) -> str:
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f}"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
