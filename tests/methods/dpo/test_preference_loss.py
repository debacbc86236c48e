"""Truths about the loss that hold for any log-probabilities."""

import math

import pytest
import torch

from pipeline.methods.dpo.trainer import preference_loss


def logprobs(rows: int = 50) -> list[torch.Tensor]:
    """Return random log-probabilities of chosen and rejected completions under policy and reference."""
    return list(-40 * torch.rand(4, rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64))


def test_a_policy_that_is_its_reference_cannot_tell_which_is_chosen():
    chosen, rejected, *_ = logprobs()
    found = preference_loss(chosen, rejected, chosen, rejected, beta=0.7)
    assert found.losses.tolist() == pytest.approx([math.log(2)] * 50)
    assert not found.chosen_rewards.any() and not found.rejected_rewards.any()


def test_the_two_labels_of_a_pair_have_probabilities_that_sum_to_1():
    chosen, rejected, ref_chosen, ref_rejected = logprobs()
    one = preference_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1).losses
    other = preference_loss(rejected, chosen, ref_rejected, ref_chosen, beta=0.1).losses
    torch.testing.assert_close((-one).exp() + (-other).exp(), torch.ones_like(one))
    assert one.std() > 0.1


def test_only_what_the_policy_gained_on_its_reference_counts():
    """A longer completion is less likely under both: that shifts neither loss nor reward."""
    chosen, rejected, ref_chosen, ref_rejected = logprobs()
    found = preference_loss(chosen, rejected, ref_chosen, ref_rejected, beta=0.1)
    shifted = preference_loss(chosen - 30, rejected + 5, ref_chosen - 30, ref_rejected + 5, beta=0.1)
    for one, other in zip(found, shifted, strict=True):
        torch.testing.assert_close(one, other)


def test_beta_scales_the_rewards():
    one, other = (preference_loss(*logprobs(), beta=beta) for beta in (0.1, 0.3))
    torch.testing.assert_close(other.chosen_rewards, 3 * one.chosen_rewards)
    torch.testing.assert_close(other.rejected_rewards, 3 * one.rejected_rewards)


def test_the_gradient_raises_the_chosen_lowers_the_rejected_and_leaves_the_reference():
    tensors = [item.requires_grad_() for item in logprobs()]
    found = preference_loss(*tensors, beta=0.1)
    found.losses.sum().backward()
    chosen, rejected, *_ = (item.grad for item in tensors)
    assert (chosen < 0).all()
    torch.testing.assert_close(rejected, -chosen)
    # Weighted by how wrong the implicit rewards are (after eq. 7), at most beta.
    order = (found.chosen_rewards - found.rejected_rewards).argsort()
    assert (chosen[order].diff() > 0).all() and chosen.min() > -0.1
    assert not found.chosen_rewards.requires_grad and not found.rejected_rewards.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pairs_that_are_far_apart_are_finite(dtype):
    far = torch.tensor([3000.0, -3000.0], dtype=dtype).requires_grad_()
    zero = torch.zeros(2, dtype=dtype)
    losses = preference_loss(far, zero, zero, zero, beta=1.0).losses
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([0.0, 3000.0], rel=1e-2)
    assert far.grad.tolist() == [0.0, -1.0]


def test_what_is_no_number_stays_none():
    bad = torch.tensor([math.nan, 0.0])
    losses = preference_loss(bad, torch.zeros(2), torch.zeros(2), torch.zeros(2), beta=1.0).losses
    assert losses.isnan().tolist() == [True, False]
