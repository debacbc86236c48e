"""An experiment on disk that was completed and scored, for tests to evaluate, alter and break."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline import paths
from pipeline.config import load
from pipeline.records import read_json, read_jsonl, write_jsonl
from pipeline.stage import Stage
from pipeline.tracking import NullRun

ROOT = Path(__file__).resolve().parents[2]
POLICIES = ["reference", "sft", "ppo", "dpo"]
JUDGES = ["minilm", "profanity"]
Row = dict[str, Any]


class Experiment:
    """The experiment `exp` in the working directory: 6 prompts, 3 samples, 2 of them analyzed, seeds and policies."""

    name = "exp"
    prompts = 6
    samples = 3

    def __init__(self) -> None:
        self.parameters()
        self.roster([0])
        self.make([0])

    def parameters(self, **sections: Row) -> None:
        """Write experiments/exp.yaml: the default experiment with these values in place of its own."""
        file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
        sections["evaluate"] = {"resamples": 200} | sections.get("evaluate", {})
        sections["complete"] = {"samples_per_prompt": self.samples, "analyzed_samples": 2, "rtp_protocol": False}
        sections["score"] = {"judges": JUDGES} | sections.get("score", {})
        for section, values in sections.items():
            file[section] |= values
        paths.experiment_file(self.name).parent.mkdir(exist_ok=True)
        paths.experiment_file(self.name).write_text(yaml.safe_dump(file), encoding="utf-8")

    def roster(self, seeds: list[int], policies: list[str] = POLICIES) -> None:
        """Write params.yaml."""
        roster = {"experiments": [self.name], "seeds": seeds, "policies": policies}
        paths.roster_file().write_text(yaml.safe_dump(roster), encoding="utf-8")

    def make(self, seeds: list[int]) -> None:
        """Write completions and scores of every policy, different for each seed and policy."""
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

    def _completion(self, generator: np.random.Generator, prompt: int, sample: int) -> Row:
        token_ids = generator.integers(0, 30, size=8).tolist()
        base, reference, policy = (-float(value) for value in generator.uniform(10, 30, size=3))
        return {
            "prompt_id": f"p{prompt}",
            "prompt": f"Prompt {prompt}",
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
        from stages.evaluate import SECTIONS, main

        main(Stage("evaluate", self.name, load(self.name, SECTIONS), NullRun()))
        return read_json(paths.metrics(self.name, "evaluation"))


def score_row(completion: Row, judge: str, toxicity: float | None) -> Row:
    """Return a row of scores/ for a row of completions/."""
    return {
        "prompt_id": completion["prompt_id"],
        "sample": completion["sample"],
        "judge": judge,
        "judge_sha256": hashlib.sha256(judge.encode()).hexdigest(),
        "toxicity": toxicity,
    }


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    monkeypatch.chdir(tmp_path)
    return Experiment()
