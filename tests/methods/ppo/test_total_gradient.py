"""Autograd's gradient of the total loss is the slope of the loss that is reported, where some tokens are clipped."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from pipeline.methods.ppo.rollout import Rollout
from pipeline.methods.ppo.trainer import PPOTrainer
from pipeline.policy.types import Analysis
from tests.methods.ppo.exact import float64_everywhere, policy_in_float64
from tests.methods.ppo.tiny_ppo import trainer_of
from tests.policy import tiny_llama

COMPLETIONS = 12
SETTINGS = {
    "epochs": 1,
    "minibatch_size": COMPLETIONS,
    "learning_rate": 1e-300,  # the optimiser may move nothing while we look
    "value_learning_rate": 1e-300,
    "max_grad_norm": 1e9,
    "warmup_steps": 0,
    "vf_coef": 0.7,
    "clip_range": 0.2,
    "value_clip_range": 0.2,
}
ALL_AT_ONCE, UNEQUAL = COMPLETIONS, 5  # micro-batches of 5, 5 and 2 completions of 1 to 13 tokens


@pytest.fixture
def double(policy: Any) -> Iterator[Any]:
    """Yield a policy in float64 away from its start: B is not 0 and neither are the values."""
    torch.manual_seed(0)
    tiny_llama.perturb(policy.model)
    with float64_everywhere():
        double = policy_in_float64(policy)
        torch.nn.init.normal_(double.value_head.linear.weight, std=0.3)
        yield double


def rollout_of(policy: Any) -> Rollout:
    """Return a rollout of another policy than this: every other token is well outside the range of the ratio."""
    items = tiny_llama.completions(COMPLETIONS)
    now = policy.analyze(items)
    noise = torch.Generator().manual_seed(0)

    def spread(size: float) -> torch.Tensor:
        return (size * torch.randn(now.mask.shape, generator=noise)).masked_fill(~now.mask, 0.0)

    before = Analysis(now.logprobs.detach() + spread(0.3), now.entropy, now.values.detach() + spread(0.3), now.mask)
    scores, nothing = torch.zeros(COMPLETIONS), torch.zeros(now.mask.shape)
    return Rollout(items, scores, before, nothing, nothing, advantages=spread(1.0), returns=spread(1.0))


def look(trainer: PPOTrainer, rollout: Rollout) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Return the total loss that an update reports, the gradient it is made with, and its statistics."""
    report = trainer.optimise(rollout, 0)
    gradient = torch.cat([parameter.grad.flatten() for parameter in trainer.optimizer.parameters])
    return report["policy/loss"] + trainer.ppo.vf_coef * report["value/loss"], gradient, report


def slope(trainer: PPOTrainer, rollout: Rollout, direction: torch.Tensor) -> float:
    """Return the central difference of the loss along a direction in the space of all trainable numbers."""
    parameters = trainer.optimizer.parameters
    starts, losses, step = [parameter.detach().clone() for parameter in parameters], [], 1e-6
    for size in (step, -step):
        parts = direction.split([parameter.numel() for parameter in parameters])
        with torch.no_grad():
            for parameter, start, part in zip(parameters, starts, parts, strict=True):
                parameter.copy_(start + size * part.view_as(parameter))
        losses.append(look(trainer, rollout)[0])
    with torch.no_grad():
        for parameter, start in zip(parameters, starts, strict=True):
            parameter.copy_(start)
    return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("micro_batch_size", [ALL_AT_ONCE, UNEQUAL])
@pytest.mark.parametrize("part", ["adapter", "value_head", "both"])
def test_the_gradient_is_the_slope_of_the_loss(double: Any, micro_batch_size: int, part: str) -> None:
    rollout, trainer = rollout_of(double), trainer_of(double, **SETTINGS, micro_batch_size=micro_batch_size)
    _, gradient, report = look(trainer, rollout)
    assert 0.2 < report["policy/clip_fraction"] < 0.8 and 0.2 < report["value/clip_fraction"] < 0.8
    head = sum(parameter.numel() for parameter in double.trainable()["value_head"])
    noise = torch.Generator().manual_seed(1)
    for _ in range(3):
        direction = torch.randn(gradient.shape, generator=noise)
        if part == "adapter":
            direction[-head:] = 0
        if part == "value_head":
            direction[:-head] = 0
        expected = slope(trainer, rollout, direction)
        assert abs(expected) > 1e-3
        assert (gradient @ direction).item() == pytest.approx(expected, rel=1e-6)


def test_every_tensor_has_its_share_of_the_slope(double: Any) -> None:
    rollout, trainer = rollout_of(double), trainer_of(double, **SETTINGS, micro_batch_size=UNEQUAL)
    _, gradient, _ = look(trainer, rollout)
    sizes = [parameter.numel() for parameter in trainer.optimizer.parameters]
    for start, end in zip(torch.tensor([0, *sizes]).cumsum(0), torch.tensor(sizes).cumsum(0), strict=False):
        direction = torch.zeros_like(gradient)
        direction[start:end] = gradient[start:end].sign()
        expected = slope(trainer, rollout, direction)
        assert (gradient @ direction).item() == pytest.approx(expected, rel=1e-5)
        assert expected > 1e-4, "a tensor that the loss does not reach"


def test_a_token_weighs_the_same_in_every_micro_batch(double: Any) -> None:
    rollout = rollout_of(double)
    assert len({len(item.token_ids) for item in rollout.completions}) > 4
    sizes = (ALL_AT_ONCE, UNEQUAL, 1)
    found = [look(trainer_of(double, **SETTINGS, micro_batch_size=size), rollout) for size in sizes]
    loss, gradient, report = found[0]
    for again in found[1:]:
        assert again[0] == pytest.approx(loss, rel=1e-10)
        torch.testing.assert_close(again[1], gradient, rtol=1e-8, atol=1e-12)
        assert again[2] == pytest.approx(report, rel=1e-8)
