"""A `python` that has the libraries imported already: what the quick tests start their stages with.

A stage of `smoke` works for a second and imports for six. Here one process imports torch, transformers, peft and mlflow
and forks for every `python -m …` that DVC starts: commands, code, arguments, working directory, environment and exit
status are the true ones, only the start of the interpreter is shared. The slow tests start every stage by itself and
compare the bytes.

This file is three programs: the fixture's side (`warm_python`), the process that waits (`serve`), and the stand-in for
`python` that hands over its streams and waits for the exit status (`ask`).
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIBRARIES = (
    "peft",
    "transformers.models.llama.modeling_llama",
    "transformers.models.llama.tokenization_llama",
    "transformers.models.t5.modeling_t5",
    "transformers.models.t5.tokenization_t5",
    "mlflow",
    "mlflow.store.tracking.sqlalchemy_store",
)


@contextmanager
def warm_python(environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield a folder that holds such a `python`, for the front of PATH."""
    with tempfile.TemporaryDirectory(prefix="warm-") as name:  # a socket's path must be short
        folder = Path(name)
        command = [sys.executable, "-P", __file__, "serve", str(folder / "socket")]
        server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None and server.stdout.readline() == "ready\n"
            stand_in = folder / "python"
            stand_in.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "{__file__}" ask "{folder}/socket" "$@"\n')
            stand_in.chmod(0o755)
            yield folder
        finally:
            server.terminate()
            server.wait(timeout=30)


def serve(place: str) -> None:
    """Import the libraries, then fork for one request after the other; returns in the forked process only."""
    parent = os.getppid()
    for library in LIBRARIES:
        importlib.import_module(library)
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who attend
    gc.freeze()  # a collection in a forked process would touch, and so copy, every page
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen()
        print("ready", flush=True)
        listener.settimeout(5)
        while os.getppid() == parent:  # a killed pytest cannot stop this process
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            with connection:
                _, streams, _, _ = socket.recv_fds(connection, 1, 3)
                request = json.loads(connection.makefile().readline())
                if os.fork() == 0:
                    return attend(connection, request, streams)
                for stream in streams:
                    os.close(stream)
    sys.exit(0)


def attend(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> None:
    """Fork once more for what was asked for, and tell its exit status; returns in the process that is to do it."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child == 0:
        return become(request, streams)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(str(status).encode())
    os._exit(0)


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Turn this forked process into the one that was asked for."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    option, module, *arguments = request["arguments"]
    assert option == "-m" and module.startswith(("stages.", "pipeline.")), request["arguments"]
    sys.argv = [module, *arguments]
    sys.path.insert(0, request["folder"])


def run_main(module: str) -> int:
    """Run a module as `python -m` does and return the exit status."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as request:
        if request.code is None or isinstance(request.code, int):
            return request.code or 0
        print(request.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def leave(status: int) -> None:
    """End this process as the interpreter does, but without taking every imported library to pieces."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def ask(place: str, arguments: list[str]) -> int:
    """Let the waiting process do what `python ARGUMENTS` would, here, and return the exit status."""
    request = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode() + b"\n")
        status = int(connection.makefile().read())
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
    serve(sys.argv[2])
    leave(run_main(sys.argv[0]))
