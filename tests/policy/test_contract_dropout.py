"""Dropout, LoRA's and the model's own, is off in rollout and update once the policy is told so."""

import pytest
import torch

from pipeline.policy.types import Decoding
from tests.policy.tiny_model import completions, perturb, prompts


@pytest.fixture
def forgetful(tiny, workplace):
    """Return a policy with half of LoRA's inputs dropped, in training mode as a trainer leaves it."""
    policy = tiny.new_policy(dropout=0.5)
    perturb(policy.model)
    torch.nn.init.normal_(policy.value_head.linear.weight)
    policy.model.train()
    return policy


def furthest(policy):
    """Return the largest difference between what was seen while sampling and an analysis with gradient."""
    items = policy.complete(prompts(10), Decoding(8), samples=2, seed=0, batch_size=20)
    seen, now = policy.analyze(items, recall=True), policy.analyze(items)
    return max((one - other).abs().max().item() for one, other in zip(seen[:3], now[:3], strict=True))


def test_with_dropout_on_update_and_rollout_differ(forgetful):
    assert furthest(forgetful) > 0.1


def test_switched_off_they_agree(forgetful):
    forgetful.model.eval()
    assert furthest(forgetful) < 1e-4


def test_switched_off_an_analysis_is_the_same_each_time_and_still_learns(forgetful):
    forgetful.model.eval()
    one, other = (forgetful.analyze(completions(8)) for _ in range(2))
    assert all(map(torch.equal, one, other))
    one.logprobs.sum().backward()
    assert all(parameter.grad.any() for parameter in forgetful.trainable()["adapter"])


def test_the_reference_is_without_dropout_too(forgetful):
    forgetful.model.eval()
    with forgetful.acting_as("reference"):
        one, other = (forgetful.analyze(completions(8)) for _ in range(2))
    assert all(map(torch.equal, one, other))


def test_switched_off_it_stays_off_whatever_is_switched(forgetful):
    forgetful.model.eval()
    for role in ("reference", "base"):
        with forgetful.acting_as(role):
            forgetful.complete(prompts(2), Decoding(2), samples=1, seed=0, batch_size=2)
    assert not any(module.training for module in forgetful.model.modules())
