"""Truths about generalised advantage estimation, for any completions, rewards, values, gamma and lambda."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.methods.ppo.objectives import estimate_advantages, shape_rewards
from pipeline.policy.masking import completion_mask
from tests.methods.ppo import numpy_ppo

QUICK = settings(deadline=None, max_examples=60)

NUMBERS = st.floats(-10, 10)
SHARES = st.floats(0, 1)
ANYTHING = st.sampled_from([0.0, 7.0, -1e30, float("inf"), float("nan")])


class Batch(NamedTuple):
    """Two rewards and two values of the same completions, [B, T] each, and where tokens are real."""

    rewards: Tensor
    values: Tensor
    other_rewards: Tensor
    other_values: Tensor
    mask: Tensor

    @property
    def lengths(self) -> list[int]:
        return self.mask.sum(dim=1).tolist()


@st.composite
def batches(draw: st.DrawFn, width: int = 6) -> Batch:
    lengths = draw(st.lists(st.integers(1, width), min_size=1, max_size=4))
    count = len(lengths) * width
    numbers = [draw(st.lists(NUMBERS, min_size=count, max_size=count)) for _ in range(4)]
    tensors = [torch.tensor(items, dtype=torch.float64).reshape(len(lengths), width) for items in numbers]
    return Batch(*tensors, completion_mask(torch.tensor(lengths), width))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def rows(tensor: Tensor, lengths: list[int]) -> list[np.ndarray]:
    return [tensor[row, :length].numpy() for row, length in enumerate(lengths)]


@QUICK
@given(batch=batches(), gamma=SHARES, gae_lambda=SHARES)
def test_it_is_the_sum_that_the_paper_writes_token_by_token(batch, gamma, gae_lambda):
    advantages, returns = estimate_advantages(batch.rewards, batch.values, batch.mask, gamma, gae_lambda)
    given = rows(batch.rewards, batch.lengths), rows(batch.values, batch.lengths)
    expected = np.concatenate(numpy_ppo.advantages(*given, gamma, gae_lambda))
    np.testing.assert_allclose(advantages[batch.mask], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(returns[batch.mask], expected + np.concatenate(given[1]), rtol=1e-9, atol=1e-9)


@QUICK
@given(batch=batches(), gamma=SHARES, gae_lambda=SHARES, share=NUMBERS)
def test_it_is_linear_in_rewards_and_values(batch, gamma, gae_lambda, share):
    one = estimate_advantages(batch.rewards, batch.values, batch.mask, gamma, gae_lambda)
    other = estimate_advantages(batch.other_rewards, batch.other_values, batch.mask, gamma, gae_lambda)
    mixed = estimate_advantages(
        batch.rewards + share * batch.other_rewards,
        batch.values + share * batch.other_values,
        batch.mask,
        gamma,
        gae_lambda,
    )
    for found, first, second in zip(mixed, one, other, strict=True):
        torch.testing.assert_close(found, first + share * second, rtol=1e-9, atol=1e-7)


@QUICK
@given(batch=batches(), gamma=SHARES, gae_lambda=SHARES, filler=ANYTHING, columns=st.integers(1, 3))
def test_padding_never_matters_whatever_it_holds_and_however_wide_it_is(batch, gamma, gae_lambda, filler, columns):
    clean = estimate_advantages(batch.rewards, batch.values, batch.mask, gamma, gae_lambda)
    mask = torch.nn.functional.pad(batch.mask, (0, columns))
    dirty = [
        torch.where(mask, torch.nn.functional.pad(tensor, (0, columns)), torch.full(mask.shape, filler).double())
        for tensor in (batch.rewards, batch.values)
    ]
    for found, expected in zip(estimate_advantages(*dirty, mask, gamma, gae_lambda), clean, strict=True):
        assert torch.equal(found, torch.nn.functional.pad(expected, (0, columns)))
        assert not found[~mask].any()


@QUICK
@given(batch=batches())
def test_without_discount_it_is_the_reward_still_to_come_minus_the_value(batch):
    advantages, returns = estimate_advantages(batch.rewards, batch.values, batch.mask, 1.0, 1.0)
    given = rows(batch.rewards, batch.lengths)
    to_come = torch.from_numpy(np.concatenate([np.cumsum(row[::-1])[::-1] for row in given]))
    close(returns[batch.mask], to_come)
    close(advantages[batch.mask], to_come - batch.values[batch.mask])


@QUICK
@given(batch=batches(), gamma=SHARES)
def test_with_lambda_0_no_token_sees_further_than_the_next(batch, gamma):
    advantages, _ = estimate_advantages(batch.rewards, batch.values, batch.mask, gamma, 0.0)
    later = batch.rewards.clone()
    later[:, 1:] += 5.0
    moved, _ = estimate_advantages(later, batch.values, batch.mask, gamma, 0.0)
    assert torch.equal(moved[:, 0], advantages[:, 0])
    real = batch.mask[:, 1:]
    close((moved - advantages)[:, 1:][real], torch.full((int(real.sum()),), 5.0, dtype=torch.float64))


@QUICK
@given(length=st.integers(1, 12), value=NUMBERS, gae_lambda=st.floats(0, 0.99))
def test_a_constant_value_without_reward_has_the_known_advantage(length, value, gae_lambda):
    mask = completion_mask(torch.tensor([length]), 12)
    values = torch.full((1, 12), value, dtype=torch.float64)
    advantages, returns = estimate_advantages(torch.zeros_like(values), values, mask, 1.0, gae_lambda)
    for position in range(length):  # only the last token errs, by the whole value; earlier ones hear of it discounted
        assert advantages[0, position].item() == pytest.approx(
            -value * gae_lambda ** (length - 1 - position), abs=1e-12
        )
    close(returns[mask], (advantages + values)[mask])


@QUICK
@given(batch=batches(), gamma=SHARES, gae_lambda=SHARES)
def test_completions_do_not_hear_of_each_other(batch, gamma, gae_lambda):
    together = estimate_advantages(batch.rewards, batch.values, batch.mask, gamma, gae_lambda)
    for row in range(len(batch.mask)):
        one = slice(row, row + 1)
        alone = estimate_advantages(batch.rewards[one], batch.values[one], batch.mask[one], gamma, gae_lambda)
        assert all(torch.equal(found, whole[one]) for found, whole in zip(alone, together, strict=True))


@QUICK
@given(batch=batches(), gamma=SHARES, later=SHARES, gae_lambda=SHARES)
def test_a_value_that_is_right_leaves_no_advantage_at_any_lambda(batch, gamma, later, gae_lambda):
    _, right = estimate_advantages(batch.rewards, torch.zeros_like(batch.values), batch.mask, gamma, 1.0)
    for chosen in (later, gae_lambda):
        advantages, returns = estimate_advantages(batch.rewards, right, batch.mask, gamma, chosen)
        torch.testing.assert_close(advantages, torch.zeros_like(advantages), atol=1e-8, rtol=0)
        torch.testing.assert_close(returns, right, atol=1e-8, rtol=0)


@QUICK
@given(batch=batches(), kl_coef=st.floats(0, 2), filler=ANYTHING)
def test_every_token_pays_for_its_kl_and_the_last_one_gets_the_score(batch, kl_coef, filler):
    scores = batch.values[:, 0]
    log_ratio = torch.where(batch.mask, batch.rewards, torch.full_like(batch.rewards, filler))
    expected = torch.where(batch.mask, -kl_coef * batch.rewards, 0.0)
    for row, length in enumerate(batch.lengths):
        expected[row, length - 1] += scores[row]
    close(shape_rewards(scores, log_ratio, batch.mask, kl_coef), expected)
