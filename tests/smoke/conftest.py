"""Experiments run once for real, for every test that looks at what a run leaves."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.smoke import dialogsum, rewrite, store, toxic_dpo
from tests.smoke.served import online
from tests.smoke.warm import warm_python
from tests.smoke.workspace import EXPERIMENT, Workspace, build, executed


@dataclass(frozen=True)
class WholeRun:
    """A working copy after its first `dvc repro`, and what that run printed and left in MLflow."""

    workspace: Workspace
    printed: str
    executed: list[str]
    commit: str  # HEAD while it ran
    runs: list[store.SeenRun]
    experiment: str = EXPERIMENT


@pytest.fixture(scope="session")
def python_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield the folder of a `python` that starts a stage at once."""
    nowhere = Workspace(tmp_path_factory.mktemp("nowhere"))
    with warm_python(nowhere.surroundings(MLFLOW_DISABLE_TELEMETRY="true")) as folder:
        yield folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> WholeRun:
    """Return the whole DAG built by one `dvc repro` in a fresh clone's state, its results committed; change nothing."""
    workspace = build(tmp_path_factory.mktemp("smoke") / "repository")
    return finished(workspace.started_by(python_folder), EXPERIMENT)


@pytest.fixture(scope="session")
def dialogsum_run(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> WholeRun:
    """Return the FLAN-T5 experiment built by `dvc repro`, its hub gone after `download`; change nothing."""
    place = tmp_path_factory.mktemp("dialogsum")
    with dialogsum.hub_of_everything(place / "made") as hub:
        workspace = dialogsum.build(place / "repository", hub)
        # By a Python of its own: huggingface_hub reads where its hub is when it is imported.
        fetched = workspace.dvc("repro", f"download@{dialogsum.EXPERIMENT}", **online(hub, place))
    return finished(workspace.started_by(python_folder), dialogsum.EXPERIMENT, fetched)


@pytest.fixture(scope="session")
def toxic_dpo_run(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> WholeRun:
    """Return the TinyLlama experiment built by `dvc repro`, its hub gone after `download`; change nothing."""
    place = tmp_path_factory.mktemp("toxic_dpo")
    with toxic_dpo.hub_of_everything(place / "made") as hub:
        workspace = toxic_dpo.build(place / "repository", hub)
        fetched = workspace.dvc("repro", f"download@{toxic_dpo.EXPERIMENT}", **online(hub, place))
    return finished(workspace.started_by(python_folder), toxic_dpo.EXPERIMENT, fetched)


@pytest.fixture(scope="session")
def rewrite_run(tmp_path_factory: pytest.TempPathFactory, python_folder: Path) -> WholeRun:
    """Return the experiment that builds its T5 and teaches it to repeat, built by one `dvc repro`; change nothing."""
    workspace = rewrite.build(tmp_path_factory.mktemp("rewrite") / "repository")
    return finished(workspace.started_by(python_folder), rewrite.EXPERIMENT)


def finished(workspace: Workspace, experiment: str, printed: str = "") -> WholeRun:
    """Build the rest of an experiment and return all that its runs left, its results committed."""
    commit = workspace.git("rev-parse", "HEAD")
    printed += workspace.dvc("repro")
    runs = store.runs(store.uri(workspace.root), experiment)
    workspace.commit()
    return WholeRun(workspace, printed, executed(printed), commit, runs, experiment)
