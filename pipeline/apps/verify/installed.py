"""The running Python and its packages against the lock of the environment and the pins of their pickles."""

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import InvalidVersion

from pipeline.apps import environment
from pipeline.apps.verify.finding import DIFFERENT, MISSING, Finding
from pipeline.config.loader import Settings
from pipeline.io import paths, records
from pipeline.io.errors import UserError
from pipeline.scorers.loading import single_scorers

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


def check_pickles(experiment: str, settings: Settings) -> Iterator[Finding]:
    """Yield whether the pickles of alt-profanity-check are those that the experiment pins; none is read as one.

    Asks what the scorer itself asks before it reads them, for the reward scorer and for every one of `scorers`.
    """
    from pipeline.scorers import profanity_check as package

    scorers = {f"scorers.{name}": scorer for name, scorer in settings.scorers.items()}
    every = {"reward.scorer": settings.reward.scorer, **scorers}
    for key, scorer in single_scorers(every, between=".members."):
        if scorer.kind != package.SCORER.kind:
            continue
        what = f"{paths.experiment_file(experiment)}: {key}.files"
        try:
            package._verify(package._package_folder(), scorer.files)
        except UserError as error:
            found, _, remedy = str(error).rpartition("; ")
            yield Finding(ENVIRONMENT, what, DIFFERENT, "these pickles in the package and no other", found, remedy)
        else:
            yield Finding(ENVIRONMENT, what)


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
