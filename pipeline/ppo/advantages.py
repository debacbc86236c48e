"""Rewards a token and generalised advantage estimation, over right-padded completions."""

import torch
from torch import Tensor


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
