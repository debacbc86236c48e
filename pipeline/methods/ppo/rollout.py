"""One rollout: completions, what was known of them before the update, and what that says of the policy."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.policy.masking import masked_mean
from pipeline.policy.types import Analysis, Completion


class Rollout(NamedTuple):
    """Scored completions and what was known of them before the update.

    scores: [B], what the reward scorer gave, before scaling. log_ratio: [B, T], log pi - log pi_ref, zero on padding.
    rewards: [B, T], unwhitened. advantages, returns: [B, T]. before: the policy's logprobs, entropy and values, with
    the completion_mask.
    """

    completions: list[Completion]
    scores: Tensor
    before: Analysis
    log_ratio: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def mask(self) -> Tensor:
        """Return the completion_mask [B, T]."""
        return self.before.mask


def scored_only(
    completions: Sequence[Completion], scores: Tensor, before: Analysis, ref_logprobs: Tensor
) -> tuple[list[Completion], Tensor, Analysis, Tensor]:
    """Leave out the completions without a score."""
    known = ~scores.isnan()
    kept = [item for item, keep in zip(completions, known.tolist(), strict=True) if keep]
    return kept, scores[known], Analysis(*(tensor[known] for tensor in before)), ref_logprobs[known]


def describe(rollout: Rollout) -> dict[str, float]:
    """Return what the rollout says of the policy before the update; KL in nats a completion, entropy a token.

    objective/reward is the sum of a completion's token rewards: scaled score less the price of KL and of a missing EOS.
    objective/kl is the k1 estimate, log pi - log pi_ref, which the reward pays for; objective/kl_k3 is
    r - 1 - log r with r = pi_ref / pi, of less variance and never negative (Schulman 2020, "Approximating KL
    divergence"). value/explained_variance is 1 - Var(returns - values) / Var(returns) over tokens, as in
    openai/baselines; 1 is perfect, below 0 is worse than a constant.
    """
    mask, completions, scores = rollout.mask, rollout.completions, rollout.scores
    log_ratio = rollout.log_ratio.double()
    return {
        "objective/score": scores.mean().item(),
        "objective/score_std": scores.std(correction=0).item(),
        "objective/reward": rollout.rewards.sum(dim=1).mean().item(),
        "objective/kl": log_ratio.sum(dim=1).mean().item(),
        "objective/kl_k3": (torch.expm1(-log_ratio) + log_ratio).sum(dim=1).mean().item(),
        "objective/entropy": masked_mean(rollout.before.entropy, mask).item(),
        "objective/length": mask.sum(dim=1).float().mean().item(),
        "objective/finished_rate": sum(item.finished for item in completions) / len(completions),
        "value/explained_variance": _explained_variance(rollout),
    }


def _explained_variance(rollout: Rollout) -> float:
    returns, values = rollout.returns[rollout.mask], rollout.before.values[rollout.mask]
    spread = returns.var(correction=0).item()
    # Returns that do not vary leave nothing to explain: the measurement is missing, as in openai/baselines.
    return 1 - (returns - values).var(correction=0).item() / spread if spread > 0 else math.nan
