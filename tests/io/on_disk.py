"""What a test finds in its working directory, and the number of a process that is gone."""

import subprocess
from pathlib import Path


def contents(folder: str = ".") -> dict[str, str]:
    """Return every file's text by its path."""
    return {path.relative_to(folder).as_posix(): path.read_text() for path in Path(folder).rglob("*") if path.is_file()}


def temporaries() -> list[Path]:
    """Return the temporary siblings that lie about."""
    return list(Path().rglob("*.tmp"))


def dead_process() -> int:
    """Return a number that no process has."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid
