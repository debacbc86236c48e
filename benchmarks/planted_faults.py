"""Plant one fault at a time in a clone of this repository and let the tests look for it.

`python -m benchmarks.planted_faults [--only NAME ...]`. The faults are in planted_faults.yaml. Tests of the fault's own
room run first, then all others; the first that fails ends the search. Seeds are fixed. Results go to
results/planted-faults.json one by one; a later run looks for those that were not found.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks import command
from pipeline.io import records
from pipeline.io.errors import UserError

FAULTS = Path("benchmarks") / "planted_faults.yaml"
RESULT = Path("benchmarks") / "results" / "planted-faults.json"
OWN_TEST = "tests/benchmarks/test_planted_faults.py"  # fails with any fault in its place
LIMIT = 3600  # seconds; tests that wait for ever have found the fault
HUNG = "(the tests did not end)"
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Fault:
    """One mistake: `find` occurs once in `file` and is replaced by `put`; `harm` says what a user would suffer."""

    name: str
    room: str
    file: str
    harm: str
    find: str
    put: str

    def planted(self, text: str) -> str:
        """Return the file's text with the fault in it; raise UserError unless `find` occurs exactly once."""
        if text.count(self.find) != 1:
            raise UserError(f"{FAULTS}: fault {self.name!r}: expected its `find` once in {self.file}, occurs "
                            f"{text.count(self.find)} times; write it as the code is now")  # fmt: skip
        return text.replace(self.find, self.put)


def read() -> list[Fault]:
    """Return the faults of planted_faults.yaml."""
    return [Fault(**entry) for entry in yaml.safe_load(FAULTS.read_text(encoding="utf-8"))]


def main() -> None:
    """Look for every fault that no test has found yet, and print the table."""
    arguments = _parser().parse_args()
    faults = [fault for fault in read() if not arguments.only or fault.name in arguments.only]
    found: dict[str, str | None] = {}
    if RESULT.exists():
        found = records.read_json(RESULT)
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        for number, fault in enumerate(faults, 1):
            if found.get(fault.name) is None or arguments.only:
                print(f"{number}/{len(faults)} {fault.name}: {fault.harm}", flush=True)
                found[fault.name] = search(clone, fault, arguments.workers)
                print(f"    {found[fault.name] or 'NOT FOUND'}", flush=True)
                records.write_json(RESULT, found)
    print(table(faults, found))


def search(clone: Path, fault: Fault, workers: int) -> str | None:
    """Return the first test that fails with the fault in the clone, or None when all pass."""
    path = clone / fault.file
    right = path.read_text(encoding="utf-8")
    path.write_text(fault.planted(right), encoding="utf-8")
    own = [f"tests/{fault.room}"]
    rest = sorted(f"tests/{folder.name}" for folder in (clone / "tests").iterdir() if folder.is_dir())
    try:
        for rooms in (own, [room for room in rest if room not in own]):
            if (test := _first_failure(clone, rooms, workers)) is not None:
                return test
        return None
    finally:
        path.write_text(right, encoding="utf-8")


def table(faults: Iterable[Fault], found: dict[str, str | None]) -> str:
    """Return one line a fault: its room, its name and the test that found it."""
    lines = [f"{fault.room:12}{fault.name:44}{found.get(fault.name) or 'NOT FOUND'}" for fault in faults]
    missed = sum(found.get(fault.name) is None for fault in faults)
    return "\n".join([*lines, f"{len(lines)} faults, {missed} not found"])


def _first_failure(clone: Path, rooms: list[str], workers: int) -> str | None:
    tests = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--tb=no",
             "--hypothesis-seed=0", "--numprocesses", str(workers), "--dist", "loadfile",
             f"--ignore={OWN_TEST}", *rooms]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    with subprocess.Popen(tests, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True,
                          start_new_session=True) as process:  # fmt: skip
        try:
            printed, _ = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return HUNG
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode == 0:
        return None
    if (failed := _FAILED.search(printed)) is None:
        raise UserError(f"pytest ended with {process.returncode} and names no test:\n{printed[-2000:]}")
    return failed.group(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="planted_faults", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these faults, found before or not")
    parser.add_argument("--workers", type=int, default=2, help="test processes (2)")
    return parser


if __name__ == "__main__":
    command.run("planted_faults", main)
