"""A store that is not there is one clear line; one that goes away costs no training."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.apps import track
from pipeline.io.errors import UserError
from pipeline.tracking import runs
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT


@pytest.fixture
def closed_port() -> int:
    """Return a loopback port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Yield a loopback port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@pytest.mark.usefixtures("repository")
class TestAtTheStart:
    def test_a_dead_server_is_one_line_naming_it_without_its_password(self, closed_port: int) -> None:
        done = given.python(given.STAGE, MLFLOW_TRACKING_URI=f"http://me:secret@127.0.0.1:{closed_port}")
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert f"http://***@127.0.0.1:{closed_port}" in line
        assert "secret" not in line
        assert "TRACKING=off" in line and "make track" in line
        assert "worked" not in done.stdout

    def test_a_silent_server_is_given_up_within_seconds(
        self, silent_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent_port}")
        with pytest.raises(UserError, match=str(silent_port)):
            runs.Store.open(EXPERIMENT)

    @pytest.mark.parametrize("scheme", ["postgresql", "mysql+pymysql"])
    def test_a_dead_database_is_not_retried_for_minutes(
        self, scheme: str, closed_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://me:secret@127.0.0.1:{closed_port}/runs")
        with pytest.raises(UserError, match=r"\*\*\*@127.0.0.1") as caught:
            runs.Store.open(EXPERIMENT)
        assert "secret" not in str(caught.value)

    def test_a_file_that_is_no_database_is_named(self) -> None:
        Path("mlflow.db").write_bytes(b"not a database" * 100)
        with pytest.raises(UserError, match="mlflow.db"):
            runs.Store.open(EXPERIMENT)

    def test_a_store_in_memory_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///:memory:")
        with pytest.raises(UserError, match="outlives"):
            runs.Store.open(EXPERIMENT)

    def test_a_misspelled_switch_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TRACKING", "no")
        with pytest.raises(UserError, match="TRACKING: expected on or off"):
            runs.switched_on()


@pytest.mark.usefixtures("repository")
class TestInTheMiddle:
    def test_a_broken_database_costs_one_warning(
        self, caplog: pytest.LogCaptureFixture, forget: Callable[[], None]
    ) -> None:
        given.leave_inputs()
        with runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params=given.params("train_ppo")) as run:
            database = Path("mlflow.db")
            database.write_bytes(b"\0" * database.stat().st_size)
            for step, values in given.CURVES:
                run.log(step, values)
            given.leave_training("ppo")
        (warning,) = [record.getMessage() for record in caplog.records if record.name.startswith("pipeline")]
        assert "mlflow.db" in warning and "make track" in warning

        forget()
        track.rebuild(EXPERIMENT)
        (run_found,) = given.runs(stage="train_ppo")
        assert len(given.contents(run_found)["history"]["policy/loss"]) == len(given.CURVES)
