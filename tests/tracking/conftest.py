"""A repository root with parameters, and a real MLflow store in sqlite."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tracking.made_up import lay_out


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sqlite file with MLflow's tables: making them takes seconds, a copy none."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def environment() -> Iterator[None]:
    """Hide the tracking variables of the surroundings, and undo those that tracking sets."""
    saved = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("MLFLOW_") or name == "TRACKING"]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(saved)


@pytest.fixture
def repository(tmp_path: Path, environment: None, monkeypatch: pytest.MonkeyPatch, migrated_database: Path) -> Path:
    """Return a repository root that is the working directory, with parameters and an empty migrated store."""
    monkeypatch.chdir(tmp_path)
    lay_out()
    shutil.copy(migrated_database, "mlflow.db")
    return tmp_path


@pytest.fixture
def forget(repository: Path, migrated_database: Path) -> Callable[[], None]:
    """Return a function that turns to another, empty store, as a fresh clone would."""

    def empty() -> None:
        fresh = repository / f"fresh-{len(list(repository.glob('fresh-*')))}.db"
        shutil.copy(migrated_database, fresh)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{fresh}"

    return empty
