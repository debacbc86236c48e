"""A real MLflow server on loopback, with two processes instead of fifteen."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.tracking.made_up import surroundings

STARTING = 300  # seconds; a busy machine takes minutes for what takes ten seconds alone


def free_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(port: int) -> "subprocess.Popen[bytes]":
    """Start an MLflow server on the repository's database, and wait until it answers."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{Path('mlflow.db').absolute()}"]
    command += ["--artifacts-destination", str(Path("server").absolute())]
    server = subprocess.Popen(
        command,
        env=surroundings(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(10 * STARTING):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return server
        time.sleep(0.1)
    stop(server)
    raise TimeoutError("the MLflow server did not start in time")


def stop(server: "subprocess.Popen[bytes]") -> None:
    """End a server and its workers."""
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
