"""Rewards, advantages and returns on completions of unequal length."""

import numpy as np
import pytest
import torch

from pipeline.methods.ppo.objectives import estimate_advantages, shape_rewards
from pipeline.policy.masking import completion_mask
from tests.methods.ppo import numpy_ppo

LENGTHS = [7, 1, 4, 6]


def random(seed, low=-1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(len(LENGTHS), 7, generator=generator, dtype=torch.float64) * 2 + low


@pytest.fixture
def mask():
    return completion_mask(torch.tensor(LENGTHS), 7)


@pytest.mark.parametrize("gamma, gae_lambda", [(1.0, 1.0), (1.0, 0.95), (0.9, 0.8), (0.9, 0.0), (0.0, 0.5)])
def test_advantages_are_the_double_sum_over_what_follows(mask, gamma, gae_lambda):
    rewards, values = random(0), random(1)
    advantages, returns = estimate_advantages(rewards, values, mask, gamma, gae_lambda)
    rows = [[tensor[row, :length].numpy() for row, length in enumerate(LENGTHS)] for tensor in (rewards, values)]
    expected = np.concatenate(numpy_ppo.advantages(*rows, gamma, gae_lambda))
    np.testing.assert_allclose(advantages[mask], expected, atol=1e-12)
    np.testing.assert_allclose(returns[mask], expected + np.concatenate(rows[1]), atol=1e-12)
    assert not advantages[~mask].any() and not returns[~mask].any()


def test_a_constant_value_without_reward_has_the_known_advantage(mask):
    values = torch.full((4, 7), 3.0)
    advantages, returns = estimate_advantages(torch.zeros(4, 7), values, mask, 1.0, 1.0)
    assert torch.equal(advantages, torch.where(mask, -3.0, 0.0)), "the episode ends with nothing left to come"
    assert not returns.any()
    halved, _ = estimate_advantages(torch.zeros(4, 7), values, mask, 1.0, 0.5)
    assert halved[0].tolist() == [-3 / 64, -3 / 32, -3 / 16, -3 / 8, -3 / 4, -3 / 2, -3]


def test_a_perfect_value_leaves_no_advantage(mask):
    rewards = random(4)
    _, returns = estimate_advantages(rewards, torch.zeros(4, 7, dtype=torch.float64), mask, 0.9, 1.0)
    for gae_lambda in (0.0, 0.7, 1.0):
        advantages, again = estimate_advantages(rewards, returns, mask, 0.9, gae_lambda)
        torch.testing.assert_close(advantages, torch.zeros_like(advantages), atol=1e-12, rtol=0)
        torch.testing.assert_close(again, returns)


def test_without_kl_the_score_stands_on_the_last_real_token_alone(mask):
    scores = torch.tensor([1.0, -2.0, 3.0, 0.5])
    rewards = shape_rewards(scores, torch.zeros(4, 7), mask, 0.3)
    expected = torch.zeros(4, 7)
    for row, length in enumerate(LENGTHS):
        expected[row, length - 1] = scores[row]
    assert torch.equal(rewards, expected)


def test_tokens_likelier_than_under_the_reference_cost_and_others_pay(mask):
    kl = random(5).float()
    rewards = shape_rewards(torch.zeros(4), kl, mask, 0.5)
    assert torch.equal(rewards[mask], -0.5 * kl[mask])
    assert not rewards[~mask].any()
    total = shape_rewards(torch.ones(4), kl, mask, 0.5).sum(dim=1)
    torch.testing.assert_close(total, 1 - 0.5 * (kl * mask).sum(dim=1))


def test_what_stands_on_padding_changes_nothing(mask):
    kl, values, scores = random(6).float(), random(7).float(), torch.ones(4)
    dirty = [torch.where(mask, item, torch.full_like(item, 1e6)) for item in (kl, values)]
    clean = [torch.where(mask, item, torch.zeros_like(item)) for item in (kl, values)]
    results = []
    for kl_given, values_given in (clean, dirty):
        rewards = shape_rewards(scores, kl_given, mask, 0.1)
        results.append((rewards, *estimate_advantages(rewards, values_given, mask, 0.95, 0.9)))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
