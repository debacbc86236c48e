"""A Git repository with a roster, an experiment and its evaluation, in which a test makes its commits."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.io import paths
from tests.smoke import workspace
from tests.tracking import evaluated

EXPERIMENT = "exp"
PARAMETERS = {"methods": {"dpo": {"beta": 0.1, "epochs": 2}}, "scorers": {"words": {"keywords": ["darn", "silly"]}}}


class Repository:
    """The working directory as a repository; every `commit` returns its hash."""

    def write(self, path: str, value: Any) -> None:
        """Write YAML."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(yaml.safe_dump(value, sort_keys=False))

    def roster(self, *experiments: str) -> None:
        """Write params.yaml."""
        self.write("params.yaml", workspace.roster(experiments))

    def parameters(self, value: Mapping[str, Any] = PARAMETERS, experiment: str = EXPERIMENT) -> None:
        """Write the file of an experiment."""
        self.write(str(paths.experiment_file(experiment)), value)

    def evaluation(self, by_prompt: Mapping[str, Sequence[float]] | None = None, **what: Any) -> None:
        """Write an evaluation, and where they are given the toxicities of every prompt."""
        evaluated.leave(EXPERIMENT, evaluated.evaluation(**what), by_prompt)

    def commit(self) -> str:
        """Commit everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "state")
        return self.git("rev-parse", "HEAD")

    def git(self, *arguments: str) -> str:
        """Run git with an identity of its own."""
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Return a repository with one commit: roster and parameters, not evaluated."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    made = Repository()
    made.git("init", "--quiet")
    made.roster(EXPERIMENT)
    made.parameters()
    made.commit()
    return made
