"""One copy of the base weights that acts as policy, reference and base, and which of its weights can learn."""

import random
from contextlib import nullcontext, suppress
from functools import partial

import pytest
import torch

from pipeline.policy import loading
from pipeline.policy.likelihood import sequence_logprobs
from pipeline.policy.types import Decoding
from tests.policy.tiny_model import HIDDEN, completions, perturb, prompts


def as_policy(policy):
    with torch.no_grad():
        return policy.analyze(completions(12)).logprobs


def as_reference(policy):
    with policy.acting_as("reference"):
        return as_policy(policy)


def as_base(policy):
    with policy.acting_as("base"):
        return as_policy(policy)


def completed(policy):
    return policy.complete(prompts(4), Decoding(3), samples=2, seed=0, batch_size=8)


def analyzed_with_gradient(policy):
    return policy.analyze(completions(3))


def failed(policy):
    completed(policy)
    raise ZeroDivisionError


DEEDS = (as_policy, completed, analyzed_with_gradient, failed)


def wander(policy, seed=0):
    """Switch back and forth, with completions, analyses and errors inside; yield after every step."""
    generator = random.Random(seed)
    for _ in range(12):
        roles = [partial(policy.acting_as, role) for role in ("reference", "base")]
        switch = generator.choice([*roles, nullcontext])
        with suppress(ZeroDivisionError), switch():
            generator.choice(DEEDS)(policy)
        yield


def learning(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def frozen_bytes(policy):
    """Return the bytes of the base and of the reference adapter, by name."""
    state = policy.model.state_dict()
    return {name: value.numpy().tobytes() for name, value in state.items() if ".default." not in name}


def test_a_fresh_policy_has_kl_exactly_zero(policy):
    assert torch.equal(as_policy(policy), as_reference(policy))


def test_a_changed_policy_has_kl_and_the_reference_stays(policy):
    before = as_reference(policy)
    perturb(policy.model)
    assert not torch.equal(as_policy(policy), as_reference(policy))
    assert torch.equal(as_reference(policy), before)
    items = policy.complete(prompts(30), Decoding(10), samples=8, seed=0, batch_size=64)
    kl = torch.tensor([found.policy - found.reference for found in sequence_logprobs(policy, items)])
    assert kl.mean() > 3 * kl.std() / len(kl) ** 0.5, "on average its own samples are likelier under the policy"


def test_the_base_is_untouched_whatever_the_policy_and_the_reference_are(tiny, policy):
    perturb(policy.model)
    base = loading.load_base("exp", tiny.model())
    alone = as_policy(tiny.policy_of(base))
    torch.testing.assert_close(as_base(policy), alone, atol=1e-5, rtol=1e-5)
    if "reference" in policy.adapters:
        assert (as_reference(policy) - as_base(policy)).abs().max() > 0.1
    else:
        assert torch.equal(as_reference(policy), as_base(policy))


def test_a_task_reference_is_the_adapter_on_disk(tiny, workplace):
    tiny.write_task_reference()
    saved = as_policy(tiny.load("reference"))
    torch.testing.assert_close(as_reference(tiny.new_policy()), saved, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("seed", [0, 1])
def test_only_the_policy_adapter_and_the_value_head_learn_whatever_was_switched(policy, seed):
    expected, frozen = learning(policy.model), frozen_bytes(policy)
    assert expected and all(".default." in name for name in expected)
    for _ in wander(policy, seed):
        assert learning(policy.model) == expected
    assert frozen_bytes(policy) == frozen
    named = policy.trainable()
    assert set(named) == {"adapter", "value_head"}
    assert len(named["adapter"]) == len(expected)
    assert sum(parameter.numel() for parameter in named["value_head"]) == HIDDEN + 1


def test_whatever_was_switched_the_three_roles_stay_what_they_were(policy):
    perturb(policy.model)
    roles = [role(policy) for role in (as_policy, as_reference, as_base)]
    for _ in wander(policy):
        pass
    for before, role in zip(roles, (as_policy, as_reference, as_base), strict=True):
        assert torch.equal(role(policy), before)


@pytest.mark.parametrize("role", ["reference", "base"])
def test_nothing_but_the_policy_adapter_can_learn_even_inside(policy, role):
    with policy.acting_as(role):
        assert not [name for name in learning(policy.model) if ".default." not in name]


@pytest.mark.parametrize("role", ["reference", "base"])
def test_an_error_inside_does_not_leave_the_policy_switched(policy, role):
    perturb(policy.model)
    before, expected = as_policy(policy), learning(policy.model)
    with pytest.raises(ZeroDivisionError), policy.acting_as(role):
        raise ZeroDivisionError
    assert torch.equal(as_policy(policy), before)
    assert learning(policy.model) == expected


def test_learning_leaves_base_and_reference_bit_for_bit_as_they_were(policy):
    frozen = frozen_bytes(policy)
    optimizer = torch.optim.AdamW([item for group in policy.trainable().values() for item in group], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        found = policy.analyze(completions(8))
        (found.values.sum() - found.logprobs.sum()).backward()
        optimizer.step()
        for _ in wander(policy):
            pass
    assert frozen_bytes(policy) == frozen
    assert not torch.equal(as_policy(policy), as_reference(policy))


def test_the_base_weights_are_there_once(tiny, policy):
    def storages(model):
        found = [parameter.untyped_storage() for parameter in model.parameters()]
        return {storage.data_ptr(): storage.nbytes() for storage in found}

    base = loading.load_base("exp", tiny.model())
    for _ in wander(policy):
        pass
    own = {item.untyped_storage().data_ptr() for item in policy.trainable()["adapter"]}
    adapters = sum(size for place, size in storages(policy.model).items() if place in own)
    copies = 2 if "reference" in policy.adapters else 1
    assert sum(storages(policy.model).values()) == sum(storages(base).values()) + copies * adapters


def test_a_loaded_policy_samples_without_anything_that_learns(tiny, policy):
    perturb(policy.model)
    loading.save_adapter(policy.model, "exp", 0, "ppo")
    loaded = tiny.load("ppo")
    assert learning(loaded.model) == []
    assert not any(module.training for module in loaded.model.modules())
    torch.testing.assert_close(as_policy(loaded), as_policy(policy), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(as_reference(loaded), as_reference(policy), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(as_base(loaded), as_base(policy), atol=1e-5, rtol=1e-5)
    assert learning(loaded.model) == [], "switching let something learn"
