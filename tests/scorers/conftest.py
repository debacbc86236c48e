"""Fixtures of the scorers' tests."""

from pathlib import Path

import pytest

from tests.scorers.tiny import write_encoder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny encoder; a test that changes it works on a copy."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    write_encoder(folder)
    return folder
