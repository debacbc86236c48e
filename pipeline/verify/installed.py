"""The running Python and its packages against the lock of the environment."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from pipeline import environment, records
from pipeline.errors import UserError
from pipeline.verify.finding import DIFFERENT, MISSING, Finding

ENVIRONMENT = "environment"
REQUIREMENTS = Path("requirements.txt")
PYTHON = "3.11"
_SETUP = "`make setup`, or run this with the Python of .venv"


def check_environment() -> Iterator[Finding]:
    """Yield whether Python, every pinned package and every version in env.json is what is installed."""
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if running == PYTHON:
        yield Finding(ENVIRONMENT, "Python")
    else:
        yield Finding(ENVIRONMENT, "Python", DIFFERENT, PYTHON, running, f"run this with Python {PYTHON}")
    for pin in _pins():
        yield _package(pin)
    recorded = records.read_json(environment.FILE)
    for library in sorted({*recorded, *environment.LIBRARIES}):
        yield _library(library, recorded.get(library))


def _package(pin: Requirement) -> Finding:
    found = _installed(pin.name)
    if found is None:
        return Finding(ENVIRONMENT, pin.name, MISSING, str(pin.specifier), "not installed", _SETUP)
    try:
        is_pinned = pin.specifier.contains(found, prereleases=True)  # PEP 440: +cpu matches a pin without a build
    except InvalidVersion:
        is_pinned = False
    if is_pinned:
        return Finding(ENVIRONMENT, pin.name)
    return Finding(ENVIRONMENT, pin.name, DIFFERENT, str(pin.specifier), found, _SETUP)


def _library(library: str, recorded: object) -> Finding:
    """Compare what a training depends on: it was trained with `recorded`."""
    what, found = f"{environment.FILE}: {library}", _installed(library)
    public = None if found is None else found.partition("+")[0]
    if public == recorded:
        return Finding(ENVIRONMENT, what)
    told = str(recorded or "no entry"), public or "not installed"
    return Finding(ENVIRONMENT, what, DIFFERENT, *told, f"{_SETUP}; for another version `make lock`, then `dvc repro`")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except (PackageNotFoundError, KeyError):  # KeyError: of importlib_metadata, which some libraries put in its place
        return None


def _pins() -> Iterator[Requirement]:
    remedy = f"restore it with `git checkout -- {REQUIREMENTS}`, or make it with `make lock`"
    try:
        lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{REQUIREMENTS}: cannot be read ({getattr(error, 'strerror', error)}); {remedy}") from None
    for number, line in enumerate(lines, start=1):
        pinned = line.partition("#")[0].strip()
        if not pinned:
            continue
        try:
            requirement = Requirement(pinned)
        except InvalidRequirement:
            requirement = None
        if requirement is None or [one.operator for one in requirement.specifier] != ["=="]:
            raise UserError(f"{REQUIREMENTS}:{number}: expected NAME==VERSION, got {pinned[:80]!r}; {remedy}")
        yield requirement
