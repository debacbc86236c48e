"""What trainings share, so that they start from and are judged by the same things, and leave the same behind."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.declarations import Method
from pipeline.config.sections import DevSection, ModelSection
from pipeline.data.schema import read_prompts
from pipeline.io import paths
from pipeline.io.atomic import staged
from pipeline.io.hashing import adapter_fingerprint
from pipeline.io.records import write_csv, write_json
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.policy import loading
from pipeline.policy.dev_check import dev_check
from pipeline.policy.making import make_policy
from pipeline.policy.prompts import tokenize_prompts
from pipeline.policy.types import Policy, Prompt
from pipeline.preferences.pairs import Pair, PromptSamples, pairs_of, read_samples
from pipeline.scorers.loading import load_reward
from pipeline.scorers.reward import Reward


@dataclass(frozen=True)
class Trained:
    """What a method's `train` returns.

    curves: one row of statistics an update, with `step` from 1; nothing in it depends on time. examples: how many
    prompts or pairs were trained on. more: what the metrics say beside them.
    """

    curves: list[dict[str, float]]
    examples: int
    more: Mapping[str, Any] = field(default_factory=dict)


class Sections(NamedTuple):
    """The parameters that trainings share."""

    model: ModelSection
    dev: DevSection


@dataclass(frozen=True)
class Training:
    """A policy with a fresh adapter, ready to be trained, what it is trained on, and what it is watched with.

    `report(step, statistics)` is to be called with every update's statistics as they come.
    """

    method: str
    inputs: str
    experiment: str
    seed: int
    model: Any
    tokenizer: Any
    policy: Policy
    reward: Reward
    sections: Sections
    checkpoints: Checkpoints
    report: Callable[[int, dict[str, float]], None]

    @property
    def key(self) -> str:
        """Return where its parameters stand in the experiment file."""
        return "reference" if self.method == "reference" else f"methods.{self.method}"

    def prompts(self, split: str) -> list[Prompt]:
        """Read and tokenize the prompts of one split; raise ValueError where the method does not train on prompts."""
        if split == "train":
            self._takes("prompts")
        path = paths.formatted(self.experiment, split)
        return tokenize_prompts(read_prompts(path), self.tokenizer, self.sections.model, path)

    def samples(self) -> list[PromptSamples]:
        """Read the scored samples of every train prompt; raise ValueError where the method takes prompts alone."""
        self._takes("samples", "pairs")
        path = paths.preferences(self.experiment, self.seed)
        return read_samples(path)

    def pairs(self) -> list[Pair]:
        """Read the chosen and rejected samples."""
        return pairs_of(self.samples())

    def _takes(self, *inputs: str) -> None:
        """Refuse what DVC does not know this training to read."""
        if self.inputs not in inputs:
            raise ValueError(f"{self.method} declares the inputs {self.inputs!r}, not {' or '.join(inputs)}")

    def check(self) -> dict[str, float | int | None]:
        """Look at the policy on the dev prompts."""
        rows = read_prompts(paths.formatted(self.experiment, "dev"))
        demonstrations = {row.id: row.demonstrations for row in rows}
        return dev_check(self.policy, self.prompts("dev"), self.reward.scorer, self.sections.dev, demonstrations)


def prepare(
    method: Method,
    experiment: str,
    seed: int,
    settings: Any,
    checkpoints: Checkpoints | None,
    report: Callable[[int, dict[str, float]], None],
) -> Training:
    """Load base, tokenizer, fresh adapter and reward: the same start for every method."""
    assert checkpoints is not None, "run_stage opens them for a stage that continues"
    model = loading.new_policy_model(experiment, seed, settings.model, settings.lora)
    tokenizer = loading.load_tokenizer(experiment)
    policy = make_policy(settings.model.architecture, model, tokenizer)
    reward = load_reward(settings.reward, experiment)
    sections = Sections(settings.model, settings.dev)
    name, inputs = method.name, method.inputs
    training = Training(name, inputs, experiment, seed, model, tokenizer, policy, reward, sections, checkpoints, report)
    training.prompts("dev")  # needed at the end only: a broken file should not cost a training
    return training


def keep_last_good(training: Training) -> Path | None:
    """Write the adapter of a training that cannot go on to a place that no stage reads, and return it.

    Return None, and write nothing, where its weights are not finite.
    """
    if not all(bool(weight.isfinite().all()) for weight in training.model.parameters() if weight.requires_grad):
        return None
    folder = paths.last_good_adapter(training.experiment, training.seed, training.method)
    return loading.write_adapter(training.model, folder, at_once=True)  # the stage is about to fail


def save(training: Training, trained: Trained) -> None:
    """Check the trained policy on the dev prompts, and only then write adapter, curves and metrics."""
    training.model.eval()
    dev = training.check()
    place = (training.experiment, training.seed, training.method)
    folder = loading.save_adapter(training.model, *place)
    write_csv(paths.curves(*place), trained.curves)
    metrics = {
        "adapter_sha256": adapter_fingerprint(staged(folder)),
        "dev": dev,
        "train": summary(training.model, trained),
    }
    write_json(paths.metrics(training.experiment, training.method, training.seed), metrics)
    shutil.rmtree(paths.last_good_adapter(*place), ignore_errors=True)  # of a failure that is over now


def summary(model: Any, trained: Trained) -> dict[str, Any]:
    """Return what the metrics of a training say of it; nothing of it depends on time."""
    return {
        "examples": trained.examples,
        "trainable_parameters": sum(item.numel() for item in model.parameters() if item.requires_grad),
        "updates": len(trained.curves),
        "last": {key: value for key, value in trained.curves[-1].items() if key != "step"},
        **trained.more,
    }
