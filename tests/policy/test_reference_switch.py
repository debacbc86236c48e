"""One copy of the base weights that acts as policy, reference and base, and which of its weights can learn."""

import pytest
import torch

from pipeline import models
from pipeline.policy import Decoding
from pipeline.policy.likelihood import sequence_logprobs
from tests.policy import tiny_llama


def as_policy(policy):
    with torch.no_grad():
        return policy.analyze(tiny_llama.completions(12)).logprobs


def as_reference(policy):
    with policy.reference():
        return as_policy(policy)


def as_base(policy):
    with policy.base():
        return as_policy(policy)


def weights(model, word):
    """Return a copy of the weights whose name holds `word`."""
    return {name: value.clone() for name, value in model.state_dict().items() if word in name}


def learning(model):
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_a_fresh_policy_has_kl_exactly_zero(policy):
    assert torch.equal(as_policy(policy), as_reference(policy))


def test_a_changed_policy_has_kl_and_the_reference_stays(policy):
    before = as_reference(policy)
    tiny_llama.perturb(policy.model)
    assert not torch.equal(as_policy(policy), as_reference(policy))
    assert torch.equal(as_reference(policy), before)
    items = policy.complete(tiny_llama.prompts(30), Decoding(10), samples=8, seed=0, batch_size=64)
    kl = torch.tensor([found.policy - found.reference for found in sequence_logprobs(policy, items)])
    assert kl.mean() > 3 * kl.std() / len(kl) ** 0.5, "on average its own samples are likelier under the policy"


def test_the_base_is_untouched_whatever_the_policy_and_the_reference_are(policy):
    tiny_llama.perturb(policy.model)
    base = models.load_base("exp", tiny_llama.section("model"))
    alone = as_policy(tiny_llama.make_policy("causal", base, policy.tokenizer))
    torch.testing.assert_close(as_base(policy), alone, atol=1e-5, rtol=1e-5)
    if policy.reference_has_adapter:
        assert (as_reference(policy) - as_base(policy)).abs().max() > 0.1
    else:
        assert torch.equal(as_reference(policy), as_base(policy))


def test_a_task_reference_is_the_adapter_on_disk(workplace):
    tiny_llama.write_task_reference()
    saved = as_policy(tiny_llama.load("reference"))
    torch.testing.assert_close(as_reference(tiny_llama.new_policy()), saved, atol=1e-5, rtol=1e-5)


def test_only_the_policy_adapter_and_the_value_head_learn_before_and_after_switching(policy):
    expected = learning(policy.model)
    assert expected and all(".default." in name for name in expected)
    for switch in (policy.reference, policy.base, policy.reference):
        with switch():
            as_policy(policy)
        assert learning(policy.model) == expected
    named = policy.trainable()
    assert set(named) == {"adapter", "value_head"}
    assert len(named["adapter"]) == len(expected)
    assert sum(parameter.numel() for parameter in named["value_head"]) == 32 + 1


@pytest.mark.parametrize("switch", ["reference", "base"])
def test_nothing_but_the_policy_adapter_can_learn_even_inside(policy, switch):
    with getattr(policy, switch)():
        assert not [name for name in learning(policy.model) if ".default." not in name]


@pytest.mark.parametrize("switch", ["reference", "base"])
def test_an_error_inside_does_not_leave_the_policy_switched(policy, switch):
    tiny_llama.perturb(policy.model)
    before, expected = as_policy(policy), learning(policy.model)
    with pytest.raises(ZeroDivisionError), getattr(policy, switch)():
        raise ZeroDivisionError
    assert torch.equal(as_policy(policy), before)
    assert learning(policy.model) == expected


def test_learning_leaves_base_and_reference_bit_for_bit_as_they_were(policy):
    frozen = weights(policy.model, "base_layer") | weights(policy.model, ".reference.")
    others = {name for name in policy.model.state_dict() if "lora" not in name}
    frozen |= {name: policy.model.state_dict()[name].clone() for name in others}
    optimizer = torch.optim.AdamW(policy.trainable()["adapter"], lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (-policy.analyze(tiny_llama.completions(8)).logprobs.sum()).backward()
        optimizer.step()
        as_reference(policy)
    after = policy.model.state_dict()
    assert [name for name, value in frozen.items() if not torch.equal(after[name], value)] == []
    assert not torch.equal(as_policy(policy), as_reference(policy))


def test_the_base_weights_are_there_once(policy):
    base = models.load_base("exp", tiny_llama.section("model"))
    expected = sum(parameter.numel() for parameter in base.parameters())
    adapters = sum(parameter.numel() for name, parameter in policy.model.named_parameters() if "lora_" in name)
    one = sum(parameter.numel() for parameter in policy.trainable()["adapter"])
    assert adapters == one * (2 if policy.reference_has_adapter else 1)
    assert sum(parameter.numel() for parameter in policy.model.parameters()) == expected + adapters


def test_a_loaded_policy_samples_without_anything_that_learns(policy):
    tiny_llama.perturb(policy.model)
    models.save_adapter(policy.model, "exp", 0, "ppo")
    loaded = tiny_llama.load("ppo")
    assert learning(loaded.model) == []
    assert not any(module.training for module in loaded.model.modules())
    torch.testing.assert_close(as_policy(loaded), as_policy(policy), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(as_reference(loaded), as_reference(policy), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(as_base(loaded), as_base(policy), atol=1e-5, rtol=1e-5)
