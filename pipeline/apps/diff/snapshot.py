"""One side of a comparison: the files of a commit, or of the workspace, as they are in Git or on disk."""

import io
import json
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.io import paths, records
from pipeline.io.errors import UserError, shortened, shown

WORKSPACE = "workspace"
REMEDY = "run `dvc repro` there and commit what it wrote"
ABBREVIATED = 7  # digits of a commit that are shown, at least


@dataclass(frozen=True)
class Snapshot:
    """The repository at a commit, or as it is on disk where `commit` is None; `name` is what a reader calls it."""

    name: str
    commit: str | None

    def text(self, path: Path) -> str | None:
        """Return the text of a file; None where there is none. Raises UserError for one that is not UTF-8."""
        try:
            if self.commit is None:
                return path.read_text(encoding="utf-8") if path.is_file() else None
            # `./` makes the path relative to the working directory, the root of every run
            done = _git("show", f"{self.commit}:./{path.as_posix()}")
            return done.stdout.decode("utf-8") if done.returncode == 0 else None
        except UnicodeDecodeError as error:
            raise UserError(f"{self.place(path)}: expected UTF-8 text, got {error}; repair the file") from None

    def yaml(self, path: Path) -> dict[str, Any]:
        """Return a YAML mapping; empty where there is no such file."""
        try:
            value = yaml.safe_load(self.text(path) or "{}")
        except yaml.YAMLError as error:
            found = shortened(" ".join(str(error).split()), 300)
            raise UserError(f"{self.place(path)}: expected YAML, got {found}; correct it") from None
        return self._mapping(path, value)

    def json(self, path: Path) -> dict[str, Any]:
        """Return a JSON object; empty where there is no such file."""
        try:
            value = json.loads("{}" if (text := self.text(path)) is None else text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.place(path)}: expected one JSON object, got {error}; {REMEDY}") from None
        return self._mapping(path, value)

    def csv(self, path: Path, columns: Collection[str]) -> list[dict[str, str]]:
        """Return the rows of a CSV file with these columns; none where there is no such file."""
        text = self.text(path)
        return [] if text is None else records.parsed_csv(io.StringIO(text), self.place(path), columns, REMEDY)

    def experiments(self) -> list[str]:
        """Return the experiments of the roster."""
        path = paths.roster_file()
        listed = self.yaml(path).get("experiments", [])
        if not isinstance(listed, list):
            raise UserError(f"{self.place(path)}: experiments: expected a list, got {shown(listed)}; correct it")
        return [str(name) for name in listed]

    def _mapping(self, path: Path, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise UserError(f"{self.place(path)}: expected a mapping, got {type(value).__name__}; repair the file")
        return value

    def place(self, path: Path) -> str:
        """Return what a message calls a file of this side."""
        return str(path) if self.commit is None else f"{self.name}:{path}"


def snapshot(revision: str) -> Snapshot:
    """Return the snapshot of a Git revision, or of the workspace for "workspace" or ""; raise UserError for another."""
    if revision in ("", WORKSPACE):
        return Snapshot(WORKSPACE, None)
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    commit = done.stdout.decode().strip()
    if done.returncode or not commit:
        raise UserError(
            f"{revision}: expected a commit, branch or tag of this repository, or `{WORKSPACE}`; "
            "`git log --oneline` lists commits (in a shallow clone run `git fetch --unshallow`)"
        )
    short = _git("rev-parse", f"--short={ABBREVIATED}", commit).stdout.decode().strip()
    return Snapshot(short if commit.startswith(revision) else f"{revision} ({short})", commit)


def _git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git: not found; install it to compare commits") from None
