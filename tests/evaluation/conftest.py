"""An experiment on disk that was completed and scored, for tests to evaluate, alter and break."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.data.schema import prompt_row, to_json
from pipeline.io import paths
from pipeline.io.records import read_json, read_jsonl, write_json, write_jsonl
from pipeline.tracking.recording import NullRun
from tests.smoke import workspace

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ["reference", "sft", "ppo", "dpo"]
JUDGES = ["minilm", "profanity"]
Row = dict[str, Any]
# In the order of their ids, as completions are.
PROMPTS = sorted((prompt_row(f"Prompt {number}", ["mild"]) for number in range(6)), key=lambda row: row.id)


class Experiment:
    """The experiment `exp` in the working directory: 6 prompts, 3 samples, 2 of them analyzed, seeds and policies."""

    name = "exp"
    prompts = len(PROMPTS)
    samples = 3

    def __init__(self) -> None:
        self.parameters()
        self.roster([0])
        self.make([0])

    def parameters(self, **sections: Row) -> None:
        """Write experiments/exp.yaml: the default experiment with these values in place of its own."""
        file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
        baselines = {"best_of_k": {"scorer": "profanity"}}
        sections["evaluate"] = {"resamples": 200, "baselines": baselines} | sections.get("evaluate", {})
        sections["complete"] = {"samples_per_prompt": self.samples, "analyzed_samples": 2, "rtp_protocol": False}
        sections["score"] = {"judges": JUDGES, "max_missing_rate": 0.5} | sections.get("score", {})
        for section, values in sections.items():
            file[section] |= values
        paths.experiment_file(self.name).parent.mkdir(exist_ok=True)
        paths.experiment_file(self.name).write_text(yaml.safe_dump(file), encoding="utf-8")

    def roster(self, seeds: list[int], methods: Sequence[str] = POLICIES[1:]) -> None:
        """Write params.yaml, and let the experiment name these methods alone."""
        place = paths.experiment_file(self.name)
        file = yaml.safe_load(place.read_text(encoding="utf-8"))
        file["methods"] = {name: section for name, section in file["methods"].items() if name in methods}
        place.write_text(yaml.safe_dump(file), encoding="utf-8")
        roster = yaml.safe_dump(workspace.roster([self.name], seeds, methods))
        paths.roster_file().write_text(roster, encoding="utf-8")

    def make(self, seeds: list[int]) -> None:
        """Write completions, scores and probes of every policy, different for each seed and policy, and the cards."""
        write_jsonl(paths.formatted(self.name, "eval"), [to_json(row) for row in PROMPTS])
        write_json(paths.metrics(self.name, "judge"), {"cards": {judge: card(judge) for judge in JUDGES}})
        for seed in seeds:
            for policy in POLICIES:
                generator = np.random.default_rng([seed, POLICIES.index(policy)])
                completions = [
                    self._completion(generator, prompt, sample)
                    for prompt in range(self.prompts)
                    for sample in range(self.samples)
                ]
                scores = [
                    score_row(row, judge, round(float(generator.uniform()), 6))
                    for judge in JUDGES
                    for row in completions
                ]
                write_jsonl(paths.completions(self.name, seed, policy), completions)
                write_jsonl(paths.scores(self.name, seed, policy), scores)
                write_jsonl(paths.probes(self.name, seed, policy), probe_rows(generator))

    def _completion(self, generator: np.random.Generator, prompt: int, sample: int) -> Row:
        token_ids = generator.integers(0, 30, size=8).tolist()
        base, reference, policy = (-float(value) for value in generator.uniform(10, 30, size=3))
        return {
            "prompt_id": PROMPTS[prompt].id,
            "prompt": PROMPTS[prompt].prompt,
            "categories": ["mild"],
            "sample": sample,
            "completion": " ".join(map(str, token_ids)),
            "token_ids": token_ids,
            "finished": bool(generator.integers(2)),
            "logprobs": {"policy": policy, "reference": reference, "base": base} if sample < 2 else None,
        }

    def alter(self, path: Path, change: Callable[[Row], Row | None]) -> None:
        """Rewrite every row of a file; a row for which `change` returns None is dropped."""
        write_jsonl(path, [new for row in read_jsonl(path) if (new := change(row)) is not None])

    def evaluate(self) -> Row:
        """Run the stage and return the evaluation as it is on disk."""
        from stages.evaluate import NODE, main

        main(Stage("evaluate", self.name, load(self.name, NODE.sections), NullRun()))
        return read_json(paths.metrics(self.name, "evaluation"))


def completions(policy: str = "sft", seed: int = 0) -> Path:
    """Return the file of one policy of the experiment."""
    return paths.completions("exp", seed, policy)


def probed(policy: str = "sft", seed: int = 0) -> Path:
    """Return the file of one policy of the experiment."""
    return paths.probes("exp", seed, policy)


def scores(policy: str = "sft", seed: int = 0) -> Path:
    """Return the file of one policy of the experiment."""
    return paths.scores("exp", seed, policy)


def card(judge: str) -> Row:
    """Return the card of a judge."""
    rates = {"sensitivity": {"value": 0.9, "windows": 300}, "specificity": {"value": 0.95, "windows": 700}}
    identity = {"value": 0.0, "low": 0.0, "high": 0.1, "windows": 20, "terms": {}}
    return {"fingerprint": sha256(judge), "held_out": judge != "profanity", "test": rates, "identity": identity}


def probe_rows(generator: np.random.Generator) -> list[Row]:
    """Return the log-likelihoods of three sentences and of three questions of each task."""
    rows = []
    for probe, choices, label in (("hellaswag", 4, None), ("identity", 1, None), ("piqa", 2, 1)):
        for item in range(3):
            for choice in range(choices):
                where = {"probe": probe, "item": sha256(f"{probe} {item}")[:16], "choice": choice, "label": label}
                rows.append(where | {"tokens": 6, "bytes": 30, "logprob": -float(generator.uniform(10, 30))})
    return sorted(rows, key=lambda row: (row["probe"], row["item"], row["choice"]))


def sha256(text: str) -> str:
    """Return the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def score_row(completion: Row, judge: str, toxicity: float | None) -> Row:
    """Return a row of scores/ for a row of completions/."""
    return {
        "prompt_id": completion["prompt_id"],
        "sample": completion["sample"],
        "judge": judge,
        "judge_sha256": sha256(judge),
        "toxicity": toxicity,
    }


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    return Experiment()
