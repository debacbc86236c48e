"""A real MLflow server on loopback, with two processes instead of fifteen."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.tracking.made_up import surroundings

STARTING = 300  # seconds; a busy machine takes minutes for what takes ten seconds alone


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(port: int, folder: Path = Path(), through: Sequence[str] = ()) -> "subprocess.Popen[bytes]":
    """Start an MLflow server on the database in `folder`, and wait until it answers.

    `through` is a command that starts the one it is given as arguments.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder.absolute() / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder.absolute() / "server")]
    server = subprocess.Popen(
        [*through, *command],
        env=surroundings(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(10 * STARTING):
        if is_well(port):
            return server
        if server.poll() is not None:
            raise ChildProcessError(f"the MLflow server ended with exit status {server.returncode}")
        time.sleep(0.1)
    stop(server)
    raise TimeoutError("the MLflow server did not start in time")


def is_well(port: int) -> bool:
    """Return whether an MLflow server answers on a loopback port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End a server and its workers."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
