"""The clipped losses: where they are the plain ones, where they stop the gradient, and what padding may hold."""

import pytest
import torch

from pipeline.methods.ppo.objectives import policy_loss, value_loss
from pipeline.policy.masking import completion_mask

LENGTHS = torch.tensor([5, 2, 4])
MASK = completion_mask(LENGTHS, 5)


def random(seed, scale=1.0):
    return scale * torch.randn(3, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient_of_one_token(ratio, advantage, clip_range=0.2):
    """Return d loss / d ratio of a single token."""
    logprob = torch.tensor([[ratio]], dtype=torch.float64).log().requires_grad_()
    found = policy_loss(logprob, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.ones(1, 1) > 0, clip_range)
    found.loss.backward()
    return logprob.grad.item() / ratio, found


def test_at_ratio_1_it_is_the_policy_gradient():
    logits = torch.randn(3, 5, 11, generator=torch.Generator().manual_seed(0), requires_grad=True)
    tokens = torch.randint(11, (3, 5, 1), generator=torch.Generator().manual_seed(1))
    logprobs = torch.log_softmax(logits, dim=-1).gather(-1, tokens).squeeze(-1)
    advantages = random(2).float()
    found = policy_loss(logprobs, logprobs.detach(), advantages, MASK, 0.2)
    (given,) = torch.autograd.grad(found.loss, logits, retain_graph=True)
    (expected,) = torch.autograd.grad(-(advantages * logprobs)[MASK].mean(), logits)
    torch.testing.assert_close(given, expected)
    assert (found.clip_fraction, found.approx_kl, found.ratio_deviation) == (0, 0, 0)
    torch.testing.assert_close(found.loss, -advantages[MASK].mean())


@pytest.mark.parametrize(
    "ratio, advantage, alive",
    [
        (1.3, 1.0, False),  # good and already likelier: no more of it
        (1.3, -1.0, True),  # bad and likelier: always taken back
        (0.7, 1.0, True),  # good and rarer: always brought back
        (0.7, -1.0, False),  # bad and already rarer: no less of it
        (1.1, 1.0, True),
        (0.9, -1.0, True),
    ],
)
def test_beyond_the_range_only_the_way_back_has_a_gradient(ratio, advantage, alive):
    gradient, found = gradient_of_one_token(ratio, advantage)
    assert gradient == pytest.approx(-advantage if alive else 0)
    assert found.clip_fraction.item() == (0 if alive else 1)
    assert found.ratio_deviation.item() == pytest.approx(abs(ratio - 1))


def test_the_range_is_the_parameter():
    assert gradient_of_one_token(1.3, 1.0, clip_range=0.4)[0] == pytest.approx(-1)


def test_approx_kl_estimates_the_kl_from_the_old_policy():
    generator = torch.Generator().manual_seed(3)
    old, new = (torch.log_softmax(torch.randn(6, generator=generator), dim=-1) for _ in range(2))
    tokens = torch.multinomial(old.exp(), 200_000, replacement=True, generator=generator)[None]
    mask = torch.ones(tokens.shape, dtype=torch.bool)
    found = policy_loss(new[tokens], old[tokens], torch.zeros(tokens.shape), mask, 0.2)
    assert found.approx_kl.item() == pytest.approx((old.exp() * (old - new)).sum().item(), rel=0.03)


def test_approx_kl_of_a_small_step_is_no_noise():
    step = 1e-4 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(4))
    old = torch.full_like(step, -3.0)
    moved = (old + step) - old  # what float32 can tell of the step
    found = policy_loss(old + step, old, torch.zeros_like(step), torch.ones_like(step) > 0, 0.2)
    assert found.approx_kl.item() == pytest.approx((moved.double() ** 2 / 2).mean().item(), rel=1e-3)


def test_padding_changes_no_loss_and_gets_no_gradient():
    results = []
    for filler in (0.0, 50.0, -50.0):

        def filled(seed, filler=filler):
            return torch.where(MASK, random(seed, 0.3), torch.tensor(filler, dtype=torch.float64)).requires_grad_()

        new, values = filled(0), filled(3)
        policy = policy_loss(new, filled(1) * -1, filled(2), MASK, 0.2)
        value = value_loss(values, filled(4), filled(5) * -1, MASK, 0.2)
        (policy.loss + value.loss).backward()
        assert not new.grad[~MASK].any() and not values.grad[~MASK].any()
        results.append([*policy, *value, new.grad[MASK], values.grad[MASK]])
    for other in results[1:]:
        assert all(torch.equal(one, same) for one, same in zip(results[0], other, strict=True))


def test_padding_has_no_weight_in_the_mean():
    wide = completion_mask(LENGTHS, 40)
    new, old, advantages = random(0, 0.3), random(1, 0.3), random(2)

    def pad(item):
        return torch.nn.functional.pad(item, (0, 35))

    narrow = policy_loss(new, old, advantages, MASK, 0.2)
    padded = policy_loss(pad(new), pad(old), pad(advantages), wide, 0.2)
    torch.testing.assert_close(list(narrow), list(padded))
    torch.testing.assert_close(
        list(value_loss(new, old, advantages, MASK, 0.2)),
        list(value_loss(pad(new), pad(old), pad(advantages), wide, 0.2)),
    )


def test_a_value_within_the_range_has_half_the_squared_error():
    old, returns = random(0), random(1)
    values = old + 0.1 * random(2).clamp(-1, 1)
    found = value_loss(values, old, returns, MASK, 0.2)
    torch.testing.assert_close(found.loss, torch.nn.functional.mse_loss(values[MASK], returns[MASK]) / 2)
    assert found.clip_fraction == 0


def test_without_a_range_a_value_has_half_the_squared_error_however_far_it_moved():
    values, old, returns = random(0, 5.0).requires_grad_(), random(1, 5.0), random(2, 5.0)
    plain = torch.nn.functional.mse_loss(values[MASK], returns[MASK]) / 2
    found = value_loss(values, old, returns, MASK, None)
    torch.testing.assert_close(found.loss, plain)
    torch.testing.assert_close(*(torch.autograd.grad(loss, values)[0] for loss in (found.loss, plain)))
    assert value_loss(values, old, returns, MASK, 0.2).loss > plain


@pytest.mark.parametrize(
    "value, target, alive",
    [
        (0.5, 1.0, False),  # moved far enough towards the return: the clipped error is the larger one
        (0.5, -1.0, True),  # moved away from it: the whole error counts
        (-0.5, -1.0, False),
        (-0.5, 1.0, True),
    ],
)
def test_a_value_that_moved_too_far_towards_its_return_stops(value, target, alive):
    values = torch.tensor([[value]], requires_grad=True)
    found = value_loss(values, torch.zeros(1, 1), torch.tensor([[target]]), torch.ones(1, 1) > 0, 0.2)
    found.loss.backward()
    assert values.grad.item() == pytest.approx(value - target if alive else 0)
    assert found.clip_fraction.item() == (0 if alive else 1)
    error = value - target if alive else 0.2 * (1 if value > 0 else -1) - target
    assert found.loss.item() == pytest.approx(error**2 / 2)
