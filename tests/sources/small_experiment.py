"""An experiment that the download stage makes in seconds, and the stage as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.smoke.checkpoint import write_checkpoint
from tests.sources.wheels import digest

ROOT = Path(__file__).resolve().parents[2]


def write_experiment(root: Path, name: str, sources: dict[str, Any]) -> None:
    """Write experiments/<name>.yaml below `root`: the model from a folder there, no scorer to fetch, these sources."""
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    checkpoint = root / "given" / "model"
    if not checkpoint.exists():
        write_checkpoint(checkpoint)
    file["model"]["source"] = {
        "uri": "file:given/model",
        "sha256": {path.name: digest(path) for path in sorted(checkpoint.iterdir())},
    }
    file["data"]["sources"] = sources
    for scorer, keyword in (("minilm", "darn"), ("words", "silly")):
        file["scorers"][scorer] = {"kind": "keyword", "keywords": [keyword], "saturation": 1}
    file["judge"]["fit"] = None
    (root / "experiments").mkdir(exist_ok=True)
    (root / "experiments" / f"{name}.yaml").write_text(yaml.safe_dump(file), encoding="utf-8")


def surroundings(**changed: str) -> dict[str, str]:
    """Return the environment of a user without settings for pip, the hub, MLflow and this project."""
    hidden = ("PIP_", "HF_", "HUGGING_FACE_", "TRANSFORMERS_", "MLFLOW_", "TOXICITY_", "TRACKING", "AWS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    defaults = {"PYTHONPATH": str(ROOT), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1", "TRACKING": "off"}
    return kept | defaults | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | changed


def begin(root: Path, *arguments: str, **changed: str) -> "subprocess.Popen[str]":
    """Start `python -m` with these arguments in `root`."""
    command = [sys.executable, "-m", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=root, env=surroundings(**changed), stdout=pipe, stderr=pipe, text=True)
