"""What every test needs: no network, whatever the libraries would like to look up."""

import os
from pathlib import Path

import pytest

from tests.scorers.tiny import write_encoder

# Set before any library is imported: huggingface_hub reads them once.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", MLFLOW_DISABLE_TELEMETRY="true", DVC_NO_ANALYTICS="1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the tiny encoder; a test that changes it works on a copy."""
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    write_encoder(folder)
    return folder
