"""Where MLflow's store is, and whether it answers. Imports no mlflow.

The default is `mlflow.db` in the repository root, by its absolute path, with artifacts in `mlartifacts/` beside it.
`MLFLOW_TRACKING_URI` overrides it. A relative `sqlite:///` URI would mean another file in every temporary workspace
of DVC; write four slashes.
"""

import logging
import os
import re
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.io.errors import UserError

logger = logging.getLogger(__name__)

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
REACH_SECONDS = 3
MIGRATION_SECONDS = 300
TEMPORARY_WORKSPACES = (".dvc", "tmp", "exps")


def repository_root() -> Path:
    """Return the absolute path of the repository whose stage is running.

    Stages run in the root. `dvc exp run --queue` and `--temp` run them in a throwaway clone below the repository's
    `.dvc/tmp/exps`: a database there would vanish with it, so the repository around the clone is meant.
    """
    here = Path.cwd().resolve()
    for index in range(len(here.parts) - len(TEMPORARY_WORKSPACES)):
        if here.parts[index : index + len(TEMPORARY_WORKSPACES)] == TEMPORARY_WORKSPACES:
            return Path(*here.parts[:index])
    return here


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI` where it is set, else the absolute sqlite URI of `mlflow.db`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{repository_root() / 'mlflow.db'}"


def artifact_location(uri: str, experiment: str) -> str | None:
    """Return the file URI of an experiment's artifacts, or None where a server decides."""
    if "sql" not in uri.split(":", 1)[0]:
        return None
    return (repository_root() / "mlartifacts" / experiment).as_uri()


def redacted(text: str) -> str:
    """Return `text` without passwords: user parts and query strings of URIs, and MLflow's own secrets."""
    for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        secret = os.environ.get(name)
        if secret:
            text = text.replace(secret, "***")
    text = re.sub(r"//\S*@", "//***@", text)
    return re.sub(r"(\w://[^\s?]*)\?[^\s)]*", r"\1?***", text)


def reason(error: BaseException) -> str:
    """Return the first cause of `error` in one short line without secrets."""
    while cause := error.__cause__ or (None if error.__suppress_context__ else error.__context__):
        error = cause
    return redacted(" ".join(f"{type(error).__name__}: {error}".split()))[:200]


@contextmanager
def refusal(uri: str) -> Iterator[None]:
    """Turn whatever a store, its driver or its network raises inside the block into one UserError naming the URI."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"tracking: {redacted(uri)} cannot be used ({reason(error)}); start the server, unset MLFLOW_TRACKING_URI "
            "to use mlflow.db here, or set TRACKING=off and run `make track` later"
        ) from None


@contextmanager
def environment(defaults: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables that the user has not set, for the block."""
    unset = {name: value for name, value in defaults.items() if name not in os.environ}
    os.environ.update(unset)
    try:
        yield
    finally:
        for name in unset:
            del os.environ[name]


class Patience(NamedTuple):
    """How long a server may take: retries of a request, the seconds that each try waits for an answer."""

    retries: int
    seconds: int

    @property
    def variables(self) -> dict[str, str]:
        """Return MLflow's environment variables for it."""
        return {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(self.retries), "MLFLOW_HTTP_REQUEST_TIMEOUT": str(self.seconds)}


PATIENT = Patience(2, 20)  # MLflow's own 7 x 120 seconds block a stage for a quarter of an hour


@contextmanager
def patience(wanted: Patience) -> Iterator[None]:
    """Be as patient as `wanted` for the block, instead of `PATIENT`; what the user has set stays."""
    usual = PATIENT.variables
    changed = {name: value for name, value in wanted.variables.items() if os.environ.get(name) == usual[name]}
    os.environ.update(changed)
    try:
        yield
    finally:
        os.environ.update({name: usual[name] for name in changed})


@contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Refuse a database that does not answer, and be alone with a sqlite file while the block opens it.

    The first use of a sqlite file migrates it for seconds, and parallel processes on a fresh one crash. MLflow retries
    a database that is not there for 100 seconds, so it is asked for here. Raises what the operating system raises.
    """
    if "sql" not in uri.split(":", 1)[0]:
        yield
        return
    from filelock import FileLock
    from sqlalchemy.engine import make_url

    url = make_url(uri)
    if url.host:
        port = url.port or DATABASE_PORTS.get(url.get_backend_name(), 0)
        socket.create_connection((url.host, port), timeout=REACH_SECONDS).close()
        yield
    elif not url.database or ":memory:" in url.database:
        raise UserError(f"{redacted(uri)}: expected a database that outlives this process")
    else:
        database = Path(url.database).resolve()
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock", timeout=MIGRATION_SECONDS):
            if not database.exists():
                logger.info("tracking: making %s, once, for about ten seconds", database.name)
            _check_writable(database)
            yield


@contextmanager
def alone() -> Iterator[None]:
    """Let one process of this repository at a time enter the block: what it looks up there, it may then add."""
    from filelock import FileLock

    folder = repository_root() / ".locks"
    folder.mkdir(mode=0o700, exist_ok=True)
    with FileLock(folder / "mlflow", timeout=MIGRATION_SECONDS):
        yield


def _check_writable(database: Path) -> None:
    with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
