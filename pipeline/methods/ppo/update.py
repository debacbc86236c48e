"""Optimising a policy on one rollout: epochs of minibatches, each gathered from micro-batches."""

import math

import torch
from torch import Tensor

from pipeline.io.errors import NotFiniteError
from pipeline.methods.ppo import PPOSection
from pipeline.methods.ppo.objectives import policy_loss, value_loss
from pipeline.methods.ppo.rollout import Rollout
from pipeline.policy.types import Policy

_LARGEST = {"policy/ratio_deviation"}  # over a minibatch the largest is kept; everything else is a mean over tokens


class Updater:
    """Hold the optimiser of a policy's adapter and value head, and take PPO updates with it."""

    def __init__(self, policy: Policy, ppo: PPOSection, seed: int) -> None:
        self.policy, self.ppo = policy, ppo
        self.shuffle = torch.Generator().manual_seed(seed)
        parameters = policy.trainable()
        self.parameters = [*parameters["adapter"], *parameters["value_head"]]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": parameters["adapter"], "lr": ppo.learning_rate},
                {"params": parameters["value_head"], "lr": ppo.value_learning_rate},
            ],
            weight_decay=0.0,  # epsilon is torch's 1e-8; openai/baselines ppo2 has 1e-5 (Huang et al. 2022, detail 3)
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)

    @property
    def learning_rate(self) -> float:
        """Return the learning rate of the adapter that the next update uses."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    def optimise(self, rollout: Rollout) -> dict[str, float]:
        """Take `epochs` passes of minibatches over the rollout and return the mean of what they report.

        Stops before the update whose approx_kl is above max_approx_kl (target_kl of OpenAI Spinning Up and
        Stable-Baselines3, without their factor 1.5). Raises NotFiniteError for a loss or gradient that is no number.
        """
        reports: list[dict[str, float]] = []
        updates = 0
        for indices in self._minibatches(len(rollout.completions)):
            reports.append(self._gather(rollout, indices))
            if self.ppo.max_approx_kl is not None and reports[-1]["policy/approx_kl"] > self.ppo.max_approx_kl:
                break
            self.optimizer.step()
            updates += 1
        self.schedule.step()
        merged = {key: sum(report[key] for report in reports) / len(reports) for key in reports[0]}
        first = reports[0]["policy/ratio_deviation"]
        return merged | {"policy/first_ratio_deviation": first, "policy/updates": float(updates)}

    def _minibatches(self, completions: int) -> list[Tensor]:
        return [
            indices
            for _ in range(self.ppo.epochs)
            for indices in torch.randperm(completions, generator=self.shuffle).split(self.ppo.minibatch_size)
        ]

    def _gather(self, rollout: Rollout, indices: Tensor) -> dict[str, float]:
        """Gather the gradient of a minibatch from micro-batches of like length, clip it, and return its statistics."""
        self.optimizer.zero_grad(set_to_none=True)
        tokens = rollout.mask[indices].sum()
        report: dict[str, float] = {}
        for part in self._micro_batches(rollout, indices):
            share = (rollout.mask[part].sum() / tokens).item()
            for key, value in self._accumulate(rollout, part, share).items():
                report[key] = _largest(report.get(key, 0.0), value) if key in _LARGEST else report.get(key, 0.0) + value
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.ppo.max_grad_norm)
        report["policy/grad_norm"] = norm.item()
        if not all(math.isfinite(value) for value in report.values()):
            ids = dict.fromkeys(rollout.completions[index].prompt.id for index in indices.tolist())
            raise NotFiniteError("a loss or gradient is not finite", list(ids))
        return report

    def _micro_batches(self, rollout: Rollout, indices: Tensor) -> tuple[Tensor, ...]:
        lengths = torch.tensor([len(item.prompt.token_ids) + len(item.token_ids) for item in rollout.completions])
        return indices[lengths[indices].argsort(stable=True)].split(self.ppo.micro_batch_size)

    def _accumulate(self, rollout: Rollout, part: Tensor, share: float) -> dict[str, float]:
        """Add a micro-batch's gradient, weighted by its share of the minibatch's tokens, and return its statistics."""
        now = self.policy.analyze([rollout.completions[index] for index in part.tolist()])
        width = now.mask.shape[1]
        old_logprobs, old_values = rollout.before.logprobs[part, :width], rollout.before.values[part, :width]
        advantages, returns = rollout.advantages[part, :width], rollout.returns[part, :width]
        policy = policy_loss(now.logprobs, old_logprobs, advantages, now.mask, self.ppo.clip_range)
        value = value_loss(now.values, old_values, returns, now.mask, self.ppo.value_clip_range)
        (share * (policy.loss + self.ppo.vf_coef * value.loss)).backward()
        return {
            "policy/loss": share * policy.loss.item(),
            "policy/clip_fraction": share * policy.clip_fraction.item(),
            "policy/approx_kl": share * policy.approx_kl.item(),
            "policy/ratio_deviation": policy.ratio_deviation.item(),
            "value/loss": share * value.loss.item(),
            "value/clip_fraction": share * value.clip_fraction.item(),
        }

    def _learning_rate_factor(self, step: int) -> float:
        """Rise over warmup_steps, then fall linearly towards zero after the last step (openai/baselines ppo2)."""
        if step < self.ppo.warmup_steps:
            return (step + 1) / (self.ppo.warmup_steps + 1)
        return (self.ppo.steps - step) / max(1, self.ppo.steps - self.ppo.warmup_steps)


def _largest(one: float, other: float) -> float:
    """Return the larger number, or NaN where one is no number: `max` would drop it."""
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)
