"""A folder of wheels that pip's real client serves itself from: no index, no network, no pip configuration."""

import os
from pathlib import Path

import pytest

from tests.sources.wheels import Wheels


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.chdir(root)
    return offer_wheels(tmp_path / "index", monkeypatch)


def offer_wheels(index: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    """Make a new folder `index` all that pip knows of, and the cache of downloads that of the working directory."""
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("TOXICITY_DOWNLOAD_CACHE", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return Wheels(index)
