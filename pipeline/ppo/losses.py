"""The two clipped losses and what they tell about an update. Tensors are [B, T]; the mask is True on real tokens."""

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.masking import masked_mean


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


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, value_clip_range: float) -> ValueLoss:
    """Return half the mean squared error, pessimistic about values that moved more than value_clip_range.

    openai/baselines ppo2: max((V - R)^2, (V_old + clip(V - V_old) - R)^2) / 2.
    """
    near = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
    unclipped, clipped = (values - returns) ** 2, (near - returns) ** 2
    with torch.no_grad():
        clip_fraction = masked_mean((clipped > unclipped).float(), mask)
    return ValueLoss(0.5 * masked_mean(torch.maximum(unclipped, clipped), mask), clip_fraction)
