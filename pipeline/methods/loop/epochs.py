"""Training in epochs over given examples, as SFT and DPO do: their order, updates from micro-batches, the schedule."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch

from pipeline.config.sections import SupervisedSection
from pipeline.methods.loop.loop import Update
from pipeline.methods.loop.optimizer import Optimizer, check_finite, linear
from pipeline.policy.types import Completion, Policy

Example = TypeVar("Example")


class EpochTrainer(ABC, Generic[Example]):
    """Make one update a step, each on `batch_size` x `gradient_accumulation` examples, in a new order every epoch.

    AdamW, a linear schedule with warm-up, clipped gradients: what Transformers' Trainer does, in its order of examples.
    """

    shown: Mapping[str, str] = {"policy/loss": "loss"}

    def __init__(self, policy: Policy, examples: Sequence[Example], section: SupervisedSection, seed: int) -> None:
        self.policy, self.examples, self.section, self.seed = policy, examples, section, seed
        self._update_size = section.batch_size * section.gradient_accumulation
        self._updates_per_epoch = math.ceil(len(examples) / self._update_size)
        self.steps = section.epochs * self._updates_per_epoch
        self.optimizer = Optimizer(
            {"policy": policy.trainable()["adapter"]},
            {"policy": section.learning_rate},
            linear(math.ceil(self.steps * section.warmup_ratio), self.steps),
            max_grad_norm=section.max_grad_norm,
            weight_decay=section.weight_decay,
        )

    @abstractmethod
    def completions(self, example: Example) -> Sequence[Completion]:
        """Return what is read of an example."""

    @abstractmethod
    def accumulate(self, part: Sequence[int], update: Sequence[int]) -> dict[str, float]:
        """Add the gradient of some of an update's examples; return its share of the update's statistics."""

    def step(self, done: int) -> Update:
        """Make the update that follows `done` others."""
        update = self._indices(done)
        completions = [item for index in update for item in self.completions(self.examples[index])]
        self.optimizer.zero_grad()
        shares = [self.accumulate(part, update) for part in self._micro_batches(update)]
        statistics = {key: sum(share[key] for share in shares) for key in shares[0]}
        statistics |= {**self.optimizer.clip(), "policy/learning_rate": self.optimizer.learning_rate}
        check_finite(statistics, [item.prompt.id for item in completions])
        self.optimizer.hold(done)
        self.optimizer.step()
        self.optimizer.advance()
        return Update(statistics, completions)

    def state(self) -> dict[str, Any]:
        """Return no running number: all follows from the seed and the number of updates."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take nothing over."""

    def _indices(self, done: int) -> list[int]:
        """Return the examples of the update that follows `done` others, in the order of Transformers' sampler."""
        epoch, place = divmod(done, self._updates_per_epoch)
        order = torch.randperm(len(self.examples), generator=torch.Generator().manual_seed(self.seed + epoch))
        return order[place * self._update_size :][: self._update_size].tolist()

    def _micro_batches(self, update: Sequence[int]) -> list[list[int]]:
        """Return the update's examples in batches of like length."""
        size = self.section.batch_size
        order = sorted(update, key=lambda index: sum(map(_length, self.completions(self.examples[index]))))
        return [order[start : start + size] for start in range(0, len(order), size)]


def _length(completion: Completion) -> int:
    return len(completion.prompt.token_ids) + len(completion.token_ids)
