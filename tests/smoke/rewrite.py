"""experiments/t5-mini-rewrite.yaml itself in a working copy of its own, its sizes tiny.

What it fetches from a package index lies beside it: files of the names that it asks for, with sentences of few words.
"""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

from tests.scorers.tiny import sentences, write_encoder
from tests.smoke.checkpoint import write_checkpoint
from tests.smoke.workspace import ROOT, Workspace, change, copy_code, settled, sha256

EXPERIMENT = "t5-mini-rewrite"
SENTENCES = 90  # of every file
PIECES = 120  # of the tokenizer that the experiment trains
# Replaces keys of the experiment: sizes alone.
SIZES: dict[str, Any] = {
    "identity": {"terms": ["tall", "short"], "templates": ["The {term} captain waved.", "A {term} goose sang."]},
    "fluency": {"max_tokens": 100},
    "reference": {
        "epochs": 1,
        "batch_size": 16,
        "gradient_accumulation": 1,
        "require": {"rouge_l": None, "toxicity_mean": None},  # a tiny model learns hardly anything
    },
    "preferences": {"samples_per_prompt": 4, "max_new_tokens": 12, "margin": 0.0001, "batch_size": 64},
    "dev": {"samples_per_prompt": 2, "max_new_tokens": 12, "batch_size": 64},
    "sft": {"epochs": 1, "batch_size": 8, "gradient_accumulation": 1},
    "dpo": {"epochs": 1, "batch_size": 8, "gradient_accumulation": 1},
    "ppo": {
        "steps": 3,
        "prompts_per_step": 8,
        "samples_per_prompt": 1,
        "minibatch_size": 4,
        "micro_batch_size": 4,
        "max_new_tokens": 12,
        "warmup_steps": 1,
    },
    "complete": {"samples_per_prompt": 2, "max_new_tokens": 12, "analyzed_samples": 2, "batch_size": 64},
    "evaluate": {"resamples": 200},
}
BUILD = {"vocab_size": PIECES, "d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1}
FIT = {
    "window_words": [4, 8],
    "windows_per_negative_source": 60,
    "regularization": 10.0,
    "max_false_positive_rate": 0.5,
}


def build(root: Path) -> Workspace:
    """Make the working copy in the new folder `root`, every source of the experiment a local file."""
    copy_code(root)
    parameters = yaml.safe_load((ROOT / "experiments" / f"{EXPERIMENT}.yaml").read_text(encoding="utf-8"))
    _write_texts(parameters, root / "sources")
    write_encoder(root / "sources" / "encoder")
    write_checkpoint(root / "sources" / "checkpoint")
    (root / "sources" / "words.txt").write_text("darn\nrotten egg\n", encoding="utf-8")
    change(parameters, SIZES)
    parameters["model"]["build"] |= BUILD | {"num_heads": 2}
    parameters["judge"]["fit"] |= FIT
    parameters["probe"]["tasks"] = {}
    for text in parameters["data"]["texts"].values():
        text["most"] = 20
    for name, source in parameters["data"]["sources"].items():
        source |= _folder(root / "sources" / name)
    for scorer in parameters["scorers"].values():
        if "source" in scorer:
            scorer["source"] = _of_scorer(scorer["kind"], root / "sources")
        if "max_tokens" in scorer:
            scorer["max_tokens"] = 32  # the tiny encoder's positions
    parameters["fluency"]["source"] = _folder(root / "sources" / "checkpoint")
    return settled(root, EXPERIMENT, parameters)


def _write_texts(parameters: dict[str, Any], folder: Path) -> None:
    """Write every file that the data and the judge are made of: toxic ones where positives or prompts come from."""
    texts = [(name, text, text["split"] == "content") for name, text in parameters["data"]["texts"].items()]
    texts += [(name, text, False) for name, text in parameters["judge"]["fit"]["negatives"].items()]
    texts += [("positives", parameters["judge"]["fit"]["positives"], True)]
    toxic = {text["file"] for _, text, is_toxic in texts if is_toxic}
    for seed, (file, field) in enumerate(sorted({(text["file"], text["field"]) for _, text, _ in texts}, key=str)):
        _write(folder / file, field, sentences(SENTENCES, seed, toxic=file in toxic))


def _write(path: Path, field: str | None, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if field is None:
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([[field], *([text] for text in texts)])


def _of_scorer(kind: str, sources: Path) -> dict[str, Any]:
    if kind == "word_list":
        return {"uri": "file:sources/words.txt", "sha256": sha256(sources / "words.txt")}
    assert kind == "embedding_head", kind
    return _folder(sources / "encoder")


def _folder(folder: Path) -> dict[str, Any]:
    """Return the source that is all files of a folder of `sources/`."""
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}
    return {"uri": f"file:sources/{folder.name}", "sha256": dict(sorted(files.items()))}
