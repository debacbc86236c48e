"""Trainings of policies that are in memory, by the methods' own `train`, on examples that no file holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.methods import METHODS
from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.methods.training import Trained, Training
from tests.policy import tiny_llama
from tests.policy.tiny_model import NAME


@dataclass(frozen=True)
class GivenTraining(Training):
    """A training whose examples are given: pairs, or prompts."""

    examples: Sequence[Any] = ()

    def pairs(self) -> list[Any]:
        """Return the given pairs."""
        return list(self.examples)

    def prompts(self, split: str) -> list[Any]:
        """Return the given prompts."""
        return list(self.examples)


def training_of(
    policy: Any,
    method: str,
    examples: Sequence[Any] = (),
    *,
    seed: int = 0,
    reward: Any = None,
    checkpoints: Checkpoints | None = None,
    report: Callable[[int, dict[str, float]], None] = lambda *_: None,
) -> Training:
    """Return the training of a policy in memory."""
    inputs = METHODS[method].inputs if method in METHODS else "demonstrations"
    kept = checkpoints or tiny_llama.checkpoints(method)
    parts = (policy.model, policy.tokenizer, policy, reward, None, kept, report)
    return GivenTraining(method, inputs, NAME, seed, *parts, examples=examples)


def train(policy: Any, method: str, examples: Sequence[Any], section: Any, **more: Any) -> Trained:
    """Train a policy in memory with a method; see `training_of` for what else can be given."""
    return METHODS[method].train(training_of(policy, method, examples, **more), section)
