"""experiments/flan-t5-dialogsum.yaml itself in a working copy of its own, its sizes tiny.

What it names on the model hub and elsewhere is served on loopback: checkpoints and a data set of the true layouts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.smoke.checkpoint import write_checkpoint
from tests.smoke.served import Pinned, pinned, served
from tests.smoke.workspace import ROOT, Workspace, change, copy_code, settled, sha256
from tests.sources.checkpoints import classifiers, detoxify, flan_t5, texts
from tests.sources.hub_server import Hub, serving

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
    hub = served(folder)
    hub.files |= {f"datasets/knkarthick/dialogsum/{name}": content for name, content in splits().items()}
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
    change(parameters, SIZES)
    parameters["reference"]["require"] = {"rouge_l": None, "toxicity_mean": None}  # a tiny model learns hardly anything
    return settled(root, EXPERIMENT, pinned(parameters, hub, lambda source: fluency_model(source, root / "sources")))


def fluency_model(source: Pinned, local: Path) -> Pinned:
    """Return the tiny checkpoint in the place of the model in a package."""
    assert source["uri"].endswith(".gguf"), source
    files = {path.name: sha256(path) for path in (local / "checkpoint").iterdir()}
    return {"uri": "file:sources/checkpoint", "sha256": files}
