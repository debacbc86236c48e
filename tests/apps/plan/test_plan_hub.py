"""`make plan` of a model on a hub: its configuration alone is asked for, and checked."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

from pipeline.io import paths
from tests.policy.tiny_model import NAME, ROOT
from tests.sources.hub_server import COMMIT, Hub, serving

REPO = "acme/tiny"
CONFIG = {
    "model_type": "llama",
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
}


def told(tmp_path: Path, served: bytes, pinned: bytes) -> tuple[int, str, str, list[str]]:
    """Return exit status, output, errors and requests of the command for a repository with these configurations."""
    parameters = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    pins = {"config.json": hashlib.sha256(pinned).hexdigest(), "model.safetensors": "0" * 64}
    parameters["model"]["source"] = {"uri": f"hub:{REPO}@{COMMIT}", "sha256": pins}
    path = tmp_path / paths.experiment_file(NAME)
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(parameters), encoding="utf-8")
    files = {f"{REPO}/config.json": served, f"{REPO}/model.safetensors": bytes(1000)}
    with serving(Hub(files)) as hub:
        places = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        places |= {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
        command = [sys.executable, "-m", "pipeline.apps.plan", NAME]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | places, capture_output=True, text=True, check=False, timeout=300
        )
        return done.returncode, done.stdout, done.stderr, list(hub.requests)


def test_weights_are_not_asked_for(tmp_path: Path) -> None:
    config = json.dumps(CONFIG).encode()
    code, stdout, stderr, requests = told(tmp_path, config, config)
    assert code == 0, stderr
    embeddings, layer = 320 * 64, 4 * 64 * 64 + 3 * 64 * 128 + 2 * 64
    assert f"parameters: {embeddings + 2 * layer + 64:,}" in stdout
    assert requests and not any("safetensors" in request for request in requests)
    assert not (tmp_path / paths.base_model(NAME)).exists()


def test_another_configuration_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    code, _, stderr, _ = told(tmp_path, json.dumps(CONFIG).encode(), b"{}")
    assert code == 2 and stderr.startswith("plan: ") and "Traceback" not in stderr
