"""The experiment `smoke` in a working copy of its own: the real DAG, code and libraries on parts of no size."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.roster import spelled_out
from pipeline.methods import METHODS
from tests.smoke.checkpoint import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "smoke"
POLICIES = ("reference", *METHODS)
OUTPUTS = ("data", "models", "adapters", "completions", "scores", "probes", "metrics", "plots")
FOLDERS = ("pipeline", "stages")
FILES = ("dvc.yaml", "env.json", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/.gitignore")
STATE = ".dvc-state/repo/.gitignore"  # Git makes this folder before DVC does
DVC = (sys.executable, "-m", "dvc")
GIT = ("git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main")
# A proxy that is not there: whatever asks the network fails at once.
NO_NETWORK = dict.fromkeys(
    ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"
)
# Two threads of one tensor of 32 numbers only wait for each other.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# What DVC falls back on where none is named, as in most CIs; as `sh -c` it stays between DVC and the stage.
PLAIN_SHELL = {"SHELL": "/bin/sh"}

# Replaces keys of the default experiment. A keyword is a letter: a random model emits no words, but some letters.
SECTIONS: dict[str, Any] = {
    "scorers": {
        "consonants": {"kind": "keyword", "keywords": list("bcdfghjklmnpqrstvwxyz"), "saturation": 4},
        "letter": {"kind": "keyword", "keywords": ["q"], "saturation": 1},
    },
    "identity": {"terms": ["tall", "short"], "templates": ["The {term} captain waved.", "A {term} goose sang."]},
    "judge": {"scorer": "consonants", "fit": None},
    "lora": {"r": 4, "alpha": 8},
    "reward": {"name": "vowels", "scorer": {"kind": "keyword", "keywords": list("aeiou"), "saturation": 2}},
    "preferences": {"samples_per_prompt": 4, "max_new_tokens": 12, "margin": 0.5, "batch_size": 32},
    "dev": {"samples_per_prompt": 2, "max_new_tokens": 12, "batch_size": 32},
    "sft": {"epochs": 2, "batch_size": 4, "learning_rate": 1.0e-2},
    "dpo": {"epochs": 2, "batch_size": 4, "gradient_accumulation": 2, "learning_rate": 1.0e-2},
    "ppo": {
        "steps": 3,
        "prompts_per_step": 8,
        "minibatch_size": 4,
        "max_new_tokens": 12,
        "warmup_steps": 1,
        "learning_rate": 1.0e-2,
    },
    "complete": {"samples_per_prompt": 4, "max_new_tokens": 12, "analyzed_samples": 2, "batch_size": 32},
    "probe": {"tasks": {"chores": {"file": "questions/questions.jsonl", "layout": "options", "questions": 4}}},
    "score": {"judges": ["consonants", "vowels", "letter"]},
    "evaluate": {
        "resamples": 200,
        "baselines": {"best_of_k": {"scorer": "vowels"}, "word_filter": {"scorer": "letter"}},
        "guards": {
            "perplexity_median": {"change": "relative", "min": None, "max": 0.5},
            "distinct_2": {"change": "relative", "min": -0.2, "max": None},
            "chores_accuracy": {"change": "absolute", "min": -0.5, "max": None},
            "identity_perplexity": {"change": "relative", "min": None, "max": 0.5},
        },
    },
}
WHOLE = ("scorers",)  # sections that are replaced, not updated


@dataclass(frozen=True)
class Workspace:
    """A repository whose stages are the real ones; commands run as a user would run them."""

    root: Path
    python_folder: Path = Path(sys.executable).parent  # of the `python` that stages are started with

    def started_by(self, python_folder: Path) -> "Workspace":
        """Return the same working copy with another `python` for its stages."""
        return replace(self, python_folder=python_folder)

    def copy(self, root: Path) -> "Workspace":
        """Copy all but the MLflow store, which names its own place, to the new folder `root`."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlartifacts", ".locks"))
        return replace(self, root=root)

    def run(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the root, whatever its exit status."""
        surroundings = self.surroundings(**environment)
        return subprocess.run(command, cwd=self.root, env=surroundings, capture_output=True, text=True, check=False)

    def must(self, *command: str, **environment: str) -> str:
        """Run a command in the root and return what it printed; fail with all of it where the command fails."""
        done = self.run(*command, **environment)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def surroundings(self, **environment: str) -> dict[str, str]:
        """Return the environment of a user in the root, with nothing of the outer repository or store."""
        hidden = ("MLFLOW_", "GIT_", "DVC_STAGE", "DVC_ROOT", "PYTHONPATH", "TRACKING", "TOXICITY_", "OMP_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        kept["PATH"] = os.pathsep.join([str(self.python_folder), kept.get("PATH", os.defpath)])
        return kept | NO_NETWORK | ONE_THREAD | PLAIN_SHELL | environment

    def dvc(self, *arguments: str, **environment: str) -> str:
        """Run `dvc` and return what it printed."""
        return self.must(*DVC, *arguments, **environment)

    def git(self, *arguments: str) -> str:
        """Run `git` and return what it printed."""
        return self.must(*GIT, *arguments).strip()

    def python(self, *arguments: str, **environment: str) -> str:
        """Run a module of the workspace and return what it printed."""
        return self.must("python", "-m", *arguments, **environment)

    def repro(self, *arguments: str, **environment: str) -> list[str]:
        """Run `dvc repro` and return the stages that it executed, in order."""
        return executed(self.dvc("repro", *arguments, **environment))

    def commit(self) -> None:
        """Commit everything that Git does not ignore."""
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "workspace")

    def edit(self, path: str, **changed: Any) -> None:
        """Replace top-level values of a YAML file."""
        file = self.root / path
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changed}, sort_keys=False))

    def load(self, path: str) -> Any:
        """Read a JSON or YAML file; PyYAML would read JSON's 2e-06 as text."""
        read = json.loads if path.endswith(".json") else yaml.safe_load
        return read((self.root / path).read_text(encoding="utf-8"))

    def outputs(self, *folders: str) -> dict[str, str]:
        """Return the SHA-256 of every file below these output folders (all by default) by its path."""
        files = [path for folder in folders or OUTPUTS for path in (self.root / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): sha256(path) for path in sorted(files)}


def executed(printed: str) -> list[str]:
    """Return the stages that `dvc repro` says it ran, in order."""
    return re.findall(r"Running stage '([^']+)'", printed)


def stages(seeds: Sequence[int] = (0,), experiment: str = EXPERIMENT) -> set[str]:
    """Return every entry of the DAG of an experiment."""
    seeded = [f"{stage}@{experiment}-{seed}" for seed in seeds for stage in ("reference", "preferences")]
    seeded += [f"train_{policy}@{experiment}-{seed}" for seed in seeds for policy in POLICIES[1:]]
    judged = product(("complete", "score", "probe"), seeds, POLICIES)
    seeded += [f"{stage}@{experiment}-{seed}-{policy}" for stage, seed, policy in judged]
    return {*(f"{stage}@{experiment}" for stage in ("download", "format", "judge", "evaluate")), *seeded}


def build(root: Path, seeds: Sequence[int] = (0,), **changed: dict[str, Any]) -> Workspace:
    """Make the working copy in the new folder `root` and commit it; `changed` updates sections of the experiment."""
    copy_code(root)
    write_checkpoint(root / "sources" / "checkpoint")
    write_prompts(root / "sources" / "prompts.jsonl")
    write_questions(root / "sources" / "questions.jsonl")
    return settled(root, EXPERIMENT, experiment(root, changed), seeds)


def copy_code(root: Path) -> None:
    """Copy code and settings of this repository to the new folder `root`."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (*FILES, STATE):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)


def settled(root: Path, name: str, parameters: dict[str, Any], seeds: Sequence[int] = (0,)) -> Workspace:
    """Give a copy of the code one experiment and a roster with nothing else, and commit it."""
    (root / "params.yaml").write_text(
        yaml.safe_dump(roster([name], seeds, list(parameters["methods"])), sort_keys=False)
    )
    (root / "experiments").mkdir()
    (root / "experiments" / f"{name}.yaml").write_text(yaml.safe_dump(parameters, sort_keys=False))
    workspace = Workspace(root)
    workspace.git("init", "--quiet")
    workspace.commit()
    return workspace


def roster(experiments: Sequence[str], seeds: Sequence[int] = (0,), methods: Sequence[str] = (*METHODS,)) -> Any:
    """Return what params.yaml holds of experiments that name these methods."""
    spelled = spelled_out(experiments, seeds, list(METHODS), lambda _: methods)
    return {"experiments": list(experiments), "seeds": list(seeds), **spelled}


def command(stage: str, *axes: str) -> tuple[str, ...]:
    """Return module and arguments of a stage that is named as in the DAG: train_sft is `stages.train` with sft."""
    name, _, method = stage.partition("_")
    return (f"stages.{name}", *axes, *([method] if method else []))


def experiment(root: Path, changed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the parameters: those of the default experiment, so that they are complete, with ours in their place."""
    parameters: dict[str, Any] = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text())
    change(parameters, SECTIONS)
    checkpoint = root / "sources" / "checkpoint"
    digests = {path.name: sha256(path) for path in sorted(checkpoint.iterdir())}
    parameters["model"] |= {"source": {"uri": "file:sources/checkpoint", "sha256": digests}}
    sources = {
        name: {"uri": f"file:sources/{name}.jsonl", "sha256": sha256(root / "sources" / f"{name}.jsonl")}
        for name in ("prompts", "questions")
    }
    parameters["data"] |= {
        "dataset": "jsonl",
        "sources": sources,
        "eval_fraction": 0.25,
        "dev_fraction": 0.2,
    }
    change(parameters, changed)
    return parameters


def change(parameters: dict[str, Any], sections: dict[str, Any]) -> None:
    """Update sections of an experiment's parameters in place, those of methods by their names too."""
    for name, values in sections.items():
        place = parameters["methods"] if name in parameters["methods"] else parameters
        place[name] = values if name in WHOLE else place[name] | values


def write_prompts(path: Path) -> None:
    """Write four dozen beginnings of sentences, one twice."""
    who = ("The old baker", "My neighbor", "A silly goose", "That darn cat", "The captain", "Our teacher")
    does = ("walked home and", "said that it", "was so tired that", "looked at me and")
    when = ("This morning", "Late at night")
    prompts = [f"{time}: {name} {verb}" for time, name, verb in product(when, who, does)]
    rows = [{"prompt": prompt, "categories": [prompt.partition(":")[0].lower()]} for prompt in [*prompts, prompts[0]]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_questions(path: Path) -> None:
    """Write half a dozen questions with two choices each, one of them right."""
    chores = ("sweep the floor", "wash the cups", "feed the goose", "bake bread", "mend a sail", "ring the bell")
    rows = [
        {
            "question": f"How does one {chore}?",
            "options": f"A. One starts.\nB. {chore}, slowly.",
            "answer": "A. One starts.",
        }
        for chore in chores
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_word(text: str, word: str) -> str:
    """Return the `__init__.py` of a room with one more word in its list."""
    return re.sub(r'"(\w+)"([,\s]*\)[,\s]*\)\s*)$', rf'"\1", "{word}"\2', text)
