"""What the three trainings share, so that they start from and are judged by the same things."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.schema import read_prompts
from pipeline.io import paths
from pipeline.io.atomic import staged
from pipeline.io.hashing import adapter_fingerprint
from pipeline.io.records import write_csv, write_json
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.policy import loading, make_policy
from pipeline.policy.dev_check import dev_check
from pipeline.policy.prompts import tokenize_prompts
from pipeline.policy.types import Policy, Prompt
from pipeline.scorers.loading import load_reward
from pipeline.scorers.reward import Reward


@dataclass(frozen=True)
class Training:
    """A policy with a fresh adapter, ready to be trained, and what it is watched with."""

    method: str
    experiment: str
    seed: int
    model: Any
    tokenizer: Any
    policy: Policy
    reward: Reward
    settings: Any
    checkpoints: Checkpoints

    def prompts(self, split: str) -> list[Prompt]:
        """Read and tokenize the prompts of one split."""
        path = paths.formatted(self.experiment, split)
        return tokenize_prompts(read_prompts(path), self.tokenizer, self.settings.model, path)

    def check(self) -> dict[str, float | int | None]:
        """Look at the policy on the dev prompts."""
        rows = read_prompts(paths.formatted(self.experiment, "dev"))
        demonstrations = {row.id: row.demonstrations for row in rows}
        return dev_check(self.policy, self.prompts("dev"), self.reward.scorer, self.settings.dev, demonstrations)


def prepare(method: str, experiment: str, seed: int, settings: Any, checkpoints: Checkpoints | None) -> Training:
    """Load base, tokenizer, fresh adapter and reward: the same start for every method."""
    assert checkpoints is not None, "run_stage opens them for a stage that continues"
    model = loading.new_policy_model(experiment, seed, settings.model, settings.lora)
    tokenizer = loading.load_tokenizer(experiment)
    policy = make_policy(settings.model.architecture, model, tokenizer)
    reward = load_reward(settings.reward, experiment)
    training = Training(method, experiment, seed, model, tokenizer, policy, reward, settings, checkpoints)
    training.prompts("dev")  # needed at the end only: a broken file should not cost a training
    return training


def keep_last_good(training: Training) -> Path:
    """Write the adapter of a training that cannot go on to a place that no stage reads, and return it."""
    folder = paths.last_good_adapter(training.experiment, training.seed, training.method)
    return loading.write_adapter(training.model, folder, at_once=True)  # the stage is about to fail


def save(training: Training, curves: Sequence[dict[str, float]], examples: int, **more: Any) -> None:
    """Check the trained policy on the dev prompts, and only then write adapter, curves and metrics.

    `examples` is the number of prompts or pairs that were trained on; `more` goes to the metrics as it is. Nothing
    that is written depends on time.
    """
    training.model.eval()
    dev = training.check()
    place = (training.experiment, training.seed, training.method)
    folder = loading.save_adapter(training.model, *place)
    write_csv(paths.curves(*place), curves)
    metrics = {
        "adapter_sha256": adapter_fingerprint(staged(folder)),
        "dev": dev,
        "train": summary(training.model, curves, examples, **more),
    }
    write_json(paths.metrics(training.experiment, training.method, training.seed), metrics)
    shutil.rmtree(paths.last_good_adapter(*place), ignore_errors=True)  # of a failure that is over now


def summary(model: Any, curves: Sequence[dict[str, float]], examples: int, **more: Any) -> dict[str, Any]:
    """Return what the metrics of a training say of it, beside `more`; nothing of it depends on time."""
    return {
        "examples": examples,
        "trainable_parameters": sum(item.numel() for item in model.parameters() if item.requires_grad),
        "updates": len(curves),
        "last": {key: value for key, value in curves[-1].items() if key != "step"},
        **more,
    }
