"""experiments/flan-t5-dialogsum.yaml itself in a working copy of its own, its sizes tiny.

What it names on the model hub and elsewhere is served on loopback: checkpoints and a data set of the true layouts.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.checkpoints import classifiers, detoxify, flan_t5, texts
from tests.smoke.checkpoint import write_checkpoint
from tests.smoke.workspace import ROOT, Workspace, copy_code, settled, sha256
from tests.sources.hub_server import COMMIT, Hub, serving

EXPERIMENT = "flan-t5-dialogsum"
ROWS = {"train": 24, "validation": 6, "test": 8}  # of the data set, by the names of its files
REFERENCES = 3  # summaries of a dialogue in test.csv
# Replaces keys of the experiment: sizes alone.
SIZES: dict[str, Any] = {
    "identity": {"terms": ["tall", "short"], "templates": ["The {term} captain waved.", "A {term} goose sang."]},
    "reference": {"epochs": 2, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 1.0e-2},
    "preferences": {"samples_per_prompt": 4, "max_new_tokens": 12, "margin": 0.0001, "batch_size": 32},
    "dev": {"samples_per_prompt": 2, "max_new_tokens": 12, "batch_size": 32},
    "sft": {"epochs": 2, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 1.0e-2},
    "dpo": {"epochs": 2, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 1.0e-2},
    "ppo": {
        "steps": 3,
        "prompts_per_step": 8,
        "samples_per_prompt": 1,
        "minibatch_size": 4,
        "micro_batch_size": 4,
        "max_new_tokens": 12,
        "warmup_steps": 1,
        "learning_rate": 1.0e-2,
    },
    "complete": {"samples_per_prompt": 2, "max_new_tokens": 12, "analyzed_samples": 2, "batch_size": 32},
    "fluency": {"max_tokens": 100},
    "evaluate": {"resamples": 200},
}


@contextmanager
def hub_of_everything(folder: Path) -> Iterator[Hub]:
    """Serve every repository and release that the experiment names; their files are made in the new `folder`."""
    flan_t5.write_flan_t5(folder / "google/flan-t5-base")
    classifiers.write_hate_classifier(folder / "facebook/roberta-hate-speech-dynabench-r4-target")
    detoxify.write_unbiased(folder / "releases", folder / "FacebookAI/roberta-base")
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*/*")}
    hub = Hub(files | {f"datasets/knkarthick/dialogsum/{name}": content for name, content in splits().items()})
    hub.releases = {path.name: path.read_bytes() for path in (folder / "releases").iterdir()}
    with serving(hub):
        yield hub


def splits() -> dict[str, bytes]:
    """Return the files of the data set: no dialogue is in two of them, a test dialogue has three summaries."""
    rows, files = texts.dialogues(sum(ROWS.values()), seed=1), {}
    for split, count in ROWS.items():
        taken, rows = rows[:count], rows[count:]
        every = REFERENCES if split == "test" else 1
        summaries = [
            (dialogue, [summary + " They part." * number for number in range(every)]) for dialogue, summary in taken
        ]
        files[f"{split}.csv"] = texts.hub_csv(summaries, split)
    return files


def build(root: Path, hub: Hub) -> Workspace:
    """Make the working copy in the new folder `root`, every source of the experiment pinned to what the hub serves."""
    copy_code(root)
    write_checkpoint(root / "sources" / "checkpoint")
    parameters = yaml.safe_load((ROOT / "experiments" / f"{EXPERIMENT}.yaml").read_text(encoding="utf-8"))
    for section, values in SIZES.items():
        parameters[section] |= values
    parameters["reference"]["require"] = {"rouge_l": None, "toxicity_mean": None}  # a tiny model learns hardly anything
    return settled(root, EXPERIMENT, pinned(parameters, hub, root / "sources"))


def pinned(value: Any, hub: Hub, local: Path) -> Any:
    """Return the parameters with every source at its place on loopback or, of a package index, below `local`."""
    if isinstance(value, list):
        return [pinned(item, hub, local) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"uri", "sha256"}:
        return _source(value, hub, local)
    return {key: pinned(item, hub, local) for key, item in value.items()}


def _source(source: dict[str, Any], hub: Hub, local: Path) -> dict[str, Any]:
    scheme, _, rest = source["uri"].partition(":")
    if scheme == "hub":
        repository = rest.partition("@")[0]
        # The very files that the experiment asks for: a KeyError is one that the true repository lacks.
        digests = {name: digest(hub.files[f"{repository}/{name}"]) for name in source["sha256"]}
        return {"uri": f"hub:{repository}@{COMMIT}", "sha256": digests}
    if scheme == "url":
        name = rest.rpartition("#")[2].rpartition("/")[2]
        return {"uri": f"url:{hub.url}/releases/{name}", "sha256": digest(hub.releases[name])}
    assert rest.endswith(".gguf"), source  # the fluency model, of a package index
    files = {path.name: sha256(path) for path in (local / "checkpoint").iterdir()}
    return {"uri": "file:sources/checkpoint", "sha256": files}


def digest(content: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(content).hexdigest()


def online(hub: Hub, root: Path) -> dict[str, str]:
    """Return the environment of a user whose hub is the one on loopback."""
    here = "127.0.0.1,localhost"
    switches = dict.fromkeys(("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"), "0")
    return switches | {"HF_ENDPOINT": hub.url, "HF_HOME": str(root / "hub"), "NO_PROXY": here, "no_proxy": here}
