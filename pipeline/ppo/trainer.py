"""One PPO step, as the paper has it: complete, score, analyze, reference, shape, advantages, optimise, update KL."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.config.sections import PPOSection, RewardSection
from pipeline.errors import NotFiniteError, UserError
from pipeline.masking import masked_mean
from pipeline.policy.sampling import derived_seed
from pipeline.policy.types import Completion, Decoding, Policy, Prompt
from pipeline.ppo.advantages import estimate_advantages, normalize_advantages, shape_rewards
from pipeline.ppo.kl_control import KLController
from pipeline.ppo.losses import policy_loss, value_loss

_LARGEST = {"policy/ratio_deviation"}  # over a minibatch the largest is kept; everything else is a mean over tokens

Score = Callable[[Sequence[str]], list[float | None]]


class Rollout(NamedTuple):
    """Scored completions and what was known of them before the update; tensors are [B, T] but scores, [B]."""

    completions: list[Completion]
    scores: Tensor
    mask: Tensor
    logprobs: Tensor
    kl: Tensor
    entropy: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class PPOTrainer:
    """Optimise a policy for a text-level score; the reference is the same weights behind `policy.reference()`."""

    def __init__(
        self, policy: Policy, toxicity: Score, ppo: PPOSection, reward: RewardSection, seed: int, batch_size: int
    ) -> None:
        self.policy, self.toxicity, self.ppo, self.reward = policy, toxicity, ppo, reward
        self.seed, self.batch_size = seed, batch_size
        self.kl = KLController(ppo.kl_coef, ppo.kl_target, ppo.kl_horizon)
        self.shuffle = torch.Generator().manual_seed(seed)
        self.steps_done = 0
        parameters = policy.trainable()
        self._parameters = [*parameters["adapter"], *parameters["value_head"]]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": parameters["adapter"], "lr": ppo.learning_rate},
                {"params": parameters["value_head"], "lr": ppo.value_learning_rate},
            ],
            weight_decay=0.0,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate_factor)

    def step(self, prompts: Sequence[Prompt]) -> dict[str, float]:
        """Make one rollout of the prompts, optimise on it, and return the step's statistics."""
        completions = self.complete(prompts)
        completions, scores = self.score(completions)
        with torch.no_grad():
            before = self.policy.analyze(completions)
            with self.policy.reference():
                kl = before.logprobs - self.policy.analyze(completions).logprobs
        rewards = shape_rewards(scores, kl, before.mask, self.kl.coef)
        advantages, returns = estimate_advantages(
            rewards, before.values, before.mask, self.ppo.gamma, self.ppo.gae_lambda
        )
        advantages = normalize_advantages(advantages, before.mask, self.ppo.whiten_advantages)
        rollout = Rollout(
            completions, scores, before.mask, before.logprobs, kl, before.entropy, before.values, advantages, returns
        )
        statistics = self.describe(rollout)
        statistics |= self.optimise(rollout)
        self.kl.update(statistics["objective/kl"], len(completions))
        self.steps_done += 1
        return statistics

    def complete(self, prompts: Sequence[Prompt]) -> list[Completion]:
        """Sample from the whole distribution: any truncation would make the probability ratio wrong."""
        try:
            return self.policy.complete(
                prompts,
                Decoding(self.ppo.max_new_tokens),
                samples=self.ppo.samples_per_prompt,
                seed=derived_seed(self.seed, self.steps_done),
                batch_size=self.batch_size,
            )
        except NotFiniteError:
            raise self._not_finite(prompts) from None

    def score(self, completions: Sequence[Completion]) -> tuple[list[Completion], Tensor]:
        """Score completions without their prompts; those that cannot be scored leave the rollout.

        score = offset - scale x toxicity, less missing_eos_penalty where the completion was cut.
        """
        kept, scores = [], []
        for completion, toxicity in zip(completions, self.toxicity([item.text for item in completions]), strict=True):
            if toxicity is not None:
                kept.append(completion)
                penalty = 0.0 if completion.finished else self.ppo.missing_eos_penalty
                scores.append(self.reward.offset - self.reward.scale * toxicity - penalty)
        if not kept:
            raise UserError(
                f"ppo step {self.steps_done + 1}: the scorer {self.reward.scorer!r} could score none of "
                f"{len(completions)} completions; check the scorer"
            )
        return kept, torch.tensor(scores)

    def optimise(self, rollout: Rollout) -> dict[str, float]:
        """Take `epochs` passes of minibatches over the rollout and return the mean of what they report."""
        reports: list[dict[str, float]] = []
        for _ in range(self.ppo.epochs):
            order = torch.randperm(len(rollout.completions), generator=self.shuffle)
            for indices in order.split(self.ppo.minibatch_size):
                reports.append(self._update(rollout, indices))
        self.schedule.step()
        merged = {key: sum(report[key] for report in reports) / len(reports) for key in reports[0]}
        merged["policy/first_ratio_deviation"] = reports[0]["policy/ratio_deviation"]
        return merged

    def _update(self, rollout: Rollout, indices: Tensor) -> dict[str, float]:
        """Take one optimiser step on a minibatch, its gradient gathered from micro-batches of like length."""
        self.optimizer.zero_grad(set_to_none=True)
        tokens = rollout.mask[indices].sum()
        report: dict[str, float] = {}
        for part in self._micro_batches(rollout, indices):
            share = (rollout.mask[part].sum() / tokens).item()
            for key, value in self._accumulate(rollout, part, share).items():
                report[key] = max(report.get(key, 0.0), value) if key in _LARGEST else report.get(key, 0.0) + value
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.ppo.max_grad_norm)
        report["policy/grad_norm"] = norm.item()
        if not all(math.isfinite(value) for value in report.values()):
            raise self._not_finite([rollout.completions[index].prompt for index in indices.tolist()])
        self.optimizer.step()
        return report

    def _not_finite(self, prompts: Sequence[Prompt]) -> NotFiniteError:
        ids = ", ".join(prompt.id for prompt in prompts)
        return NotFiniteError(
            f"ppo step {self.steps_done + 1}: the policy, its loss or its gradient is not finite (prompts {ids}); "
            "lower ppo.learning_rate or use model.dtype float32"
        )

    def _micro_batches(self, rollout: Rollout, indices: Tensor) -> tuple[Tensor, ...]:
        lengths = torch.tensor(
            [len(item.prompt.token_ids) + len(item.token_ids) for item in rollout.completions], device="cpu"
        )
        return indices[lengths[indices].argsort(stable=True)].split(self.ppo.micro_batch_size)

    def _accumulate(self, rollout: Rollout, part: Tensor, share: float) -> dict[str, float]:
        """Add a micro-batch's gradient, weighted by its share of the minibatch's tokens, and return its statistics."""
        now = self.policy.analyze([rollout.completions[index] for index in part.tolist()])
        width = now.mask.shape[1]
        old_logprobs, old_values = rollout.logprobs[part, :width], rollout.values[part, :width]
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

    def describe(self, rollout: Rollout) -> dict[str, float]:
        """Return what the rollout says of the policy before the update; KL in nats a completion."""
        mask, completions = rollout.mask, rollout.completions
        kl = rollout.kl.sum(dim=1).mean()
        residual = masked_mean((rollout.returns - rollout.values) ** 2, mask)
        mean_return = masked_mean(rollout.returns, mask)
        spread = masked_mean((rollout.returns - mean_return) ** 2, mask)
        return {
            "objective/score": rollout.scores.mean().item(),
            "objective/score_std": rollout.scores.std(correction=0).item(),
            "objective/reward": (rollout.scores.mean() - self.kl.coef * kl.cpu()).item(),
            "objective/kl": kl.item(),
            "objective/kl_coef": self.kl.coef,
            "objective/entropy": masked_mean(rollout.entropy, mask).item(),
            "objective/length": mask.sum(dim=1).float().mean().item(),
            "objective/finished_rate": sum(item.finished for item in completions) / len(completions),
            "objective/unscored": float(self.ppo.prompts_per_step * self.ppo.samples_per_prompt - len(completions)),
            "value/explained_variance": (1 - residual / spread.clamp(min=1e-8)).item(),
            "policy/learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _learning_rate_factor(self, step: int) -> float:
        """Rise over warmup_steps, then fall linearly towards zero after the last step (openai/lm-human-preferences)."""
        if step < self.ppo.warmup_steps:
            return (step + 1) / (self.ppo.warmup_steps + 1)
        return (self.ppo.steps - step) / max(1, self.ppo.steps - self.ppo.warmup_steps)
