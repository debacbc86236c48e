"""What PPO optimises, as pure functions and running numbers: rewards, advantages, losses, KL and score scaling."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.policy.masking import masked_mean


def shape_rewards(scores: Tensor, log_ratio: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Return the reward of every token, [B, T]: minus kl_coef x KL everywhere, plus the score on the last token.

    scores: [B]. log_ratio: [B, T], log pi(token) - log pi_ref(token), the k1 estimate (Ziegler et al. 2019, eq. 2).
    """
    rewards = torch.where(mask, -kl_coef * log_ratio, torch.zeros_like(log_ratio))
    last = mask.sum(dim=1) - 1
    return rewards.scatter_add(1, last[:, None], scores[:, None].to(rewards))


def estimate_advantages(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns, both [B, T] and zero on padding.

    delta_t = r_t + gamma V_{t+1} - V_t, A_t = delta_t + gamma lambda A_{t+1} (Schulman et al. 2016, eq. 16);
    the value after the last real token is 0, since every completion ends the episode. returns = A + V.
    """
    values = torch.where(mask, values, torch.zeros_like(values))
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    next_value = torch.zeros_like(following)
    for position in reversed(range(values.shape[1])):
        delta = rewards[:, position] + gamma * next_value - values[:, position]
        following = torch.where(mask[:, position], delta + gamma * gae_lambda * following, 0.0)
        advantages[:, position] = following
        next_value = values[:, position]
    return advantages, torch.where(mask, advantages + values, torch.zeros_like(values))


class PolicyLoss(NamedTuple):
    """loss: scalar. clip_fraction: share of tokens where the clipped term was the larger. approx_kl: new from old
    policy, the k3 estimate (never negative). ratio_deviation: largest |ratio - 1|."""

    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor
    ratio_deviation: Tensor


class ValueLoss(NamedTuple):
    """loss: scalar. clip_fraction: share of tokens where the clipped term was the larger."""

    loss: Tensor
    clip_fraction: Tensor


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip_range: float
) -> PolicyLoss:
    """Return -E[min(r A, clip(r, 1 - eps, 1 + eps) A)] over real tokens (Schulman et al. 2017, eq. 7)."""
    log_ratio = torch.where(mask, logprobs - old_logprobs, torch.zeros_like(logprobs))
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    with torch.no_grad():
        clip_fraction = masked_mean((clipped > unclipped).float(), mask)
        # Schulman 2020, "Approximating KL divergence", k3; samples come from the old policy. In float32 the
        # difference of two numbers near 1 would be noise, and negative as often as not.
        approx_kl = masked_mean(torch.expm1(log_ratio.double()) - log_ratio, mask)
        deviation = (ratio - 1).abs().max()
    return PolicyLoss(masked_mean(torch.maximum(unclipped, clipped), mask), clip_fraction, approx_kl, deviation)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, value_clip_range: float | None
) -> ValueLoss:
    """Return half the mean squared error, pessimistic about values that moved more than value_clip_range.

    openai/baselines ppo2: max((V - R)^2, (V_old + clip(V - V_old) - R)^2) / 2. None does not clip.
    """
    bound = math.inf if value_clip_range is None else value_clip_range
    near = values.clamp(old_values - bound, old_values + bound)
    unclipped, clipped = (values - returns) ** 2, (near - returns) ** 2
    with torch.no_grad():
        clip_fraction = masked_mean((clipped > unclipped).float(), mask)
    return ValueLoss(0.5 * masked_mean(torch.maximum(unclipped, clipped), mask), clip_fraction)


class KLController:
    """Hold kl_coef fixed, or steer it so that the KL of a completion nears `target` nats.

    Ziegler et al. 2019, section 2.2: e = clip(KL / target - 1, -0.2, 0.2), coef <- coef (1 + e n / horizon) after n
    completions. A target of None keeps the coefficient.
    """

    def __init__(self, coef: float, target: float | None, horizon: int) -> None:
        self.coef = coef
        self._target = target
        self._horizon = horizon

    def update(self, kl: float, completions: int) -> None:
        """Take note of the mean KL (nats a completion) of a rollout."""
        if self._target is not None:
            error = min(max(kl / self._target - 1, -0.2), 0.2)
            self.coef *= 1 + error * completions / self._horizon


class ScoreScaling:
    """Divide scores by their running standard deviation, perhaps less their running mean, and clip them.

    kind: `none`; `scale`, divided alone, so that 0 keeps its meaning; `normalize`, also centred (TRL 0.11 PPOConfig:
    use_score_scaling and use_score_norm). clip: largest absolute value afterwards, or None (TRL 0.11 score_clip;
    Engstrom et al. 2020, section 3, on reward scaling and clipping). Mean and variance run over all rollouts so far,
    merged as in Chan et al. 1979.
    """

    def __init__(self, kind: str, clip: float | None) -> None:
        self.kind, self.clip = kind, clip
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, scores: Tensor) -> Tensor:
        """Take note of the scores [B] of a rollout and return them scaled."""
        self._note(scores)
        if self.kind == "normalize":
            scores = scores - self.mean
        if self.kind != "none" and self.squares > 0:  # equal scores have no scale to bring them to
            scores = scores / math.sqrt(self.squares / (self.count - 1))
        return scores if self.clip is None else scores.clamp(-self.clip, self.clip)

    def state(self) -> dict[str, float]:
        """Return the running numbers."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the running numbers of another."""
        self.count, self.mean, self.squares = state["count"], state["mean"], state["squares"]

    def _note(self, scores: Tensor) -> None:
        values = scores.double()
        count, mean = len(values), values.mean().item()
        squares = ((values - mean) ** 2).sum().item()
        distance, total = mean - self.mean, self.count + count
        self.squares += squares + distance**2 * self.count * count / total
        self.mean += distance * count / total
        self.count = total
