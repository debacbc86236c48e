"""The experiment `smoke` run once for real, for every test that looks at what a run leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.smoke import store
from tests.smoke.warm import warm_python
from tests.smoke.workspace import Workspace, build, executed


@dataclass(frozen=True)
class WholeRun:
    """A working copy after its first `dvc repro`, and what that run printed and left in MLflow."""

    workspace: Workspace
    printed: str
    executed: list[str]
    commit: str  # HEAD while it ran
    runs: list[store.SeenRun]


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder of a `python` that starts a stage at once."""
    nowhere = Workspace(tmp_path_factory.mktemp("nowhere"))
    with warm_python(nowhere.surroundings(MLFLOW_DISABLE_TELEMETRY="true")) as folder:
        yield folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> WholeRun:
    """Return the whole DAG built by one `dvc repro` in a fresh clone's state, its results committed; change nothing."""
    workspace = build(tmp_path_factory.mktemp("smoke") / "repository").started_by(python_folder)
    commit = workspace.git("rev-parse", "HEAD")
    printed = workspace.dvc("repro")
    runs = store.runs(store.uri(workspace.root))
    workspace.commit()
    return WholeRun(workspace, printed, executed(printed), commit, runs)
