"""Where the store is, and what a message may say of it."""

from pathlib import Path

import pytest

from pipeline.tracking import address


@pytest.mark.usefixtures("environment")
class TestTrackingUri:
    def test_is_an_absolute_file_in_the_repository(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert address.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"

    def test_outlives_the_temporary_workspaces_of_dvc(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        workspace = tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmpabc"
        workspace.mkdir(parents=True)
        monkeypatch.chdir(workspace)
        assert address.tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"
        assert address.artifact_location(address.tracking_uri(), "x") == f"file://{tmp_path}/mlartifacts/x"

    def test_is_the_one_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.com")
        assert address.tracking_uri() == "http://example.com"
        assert address.artifact_location("http://example.com", "x") is None


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:secret@example.com:5000/path",
        "https://secret@example.com",
        "http://me:a/secret@example.com",
        "postgresql+psycopg2://me:secret@example.com/db",
        "postgresql://example.com/db?user=me&password=secret",
        "could not open mysql://me:secret@example.com/db?ssl=secret now",
    ],
)
def test_no_secret_of_a_uri_is_shown(uri: str) -> None:
    shown = address.redacted(uri)
    assert "secret" not in shown
    assert "example.com" in shown


def test_a_uri_without_secrets_is_shown_whole() -> None:
    assert address.redacted("http://127.0.0.1:5000/a") == "http://127.0.0.1:5000/a"


def test_the_secrets_of_the_environment_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hush")
    assert "hush" not in address.reason(ValueError("refused: Bearer hush"))
