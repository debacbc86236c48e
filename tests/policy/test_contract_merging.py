"""LoRA folded into the weights while sampling: the same policy inside, the same bytes afterwards."""

from contextlib import nullcontext

import pytest
import torch
from peft import get_peft_model

from pipeline.policy import loading
from pipeline.policy.adapters import merged
from pipeline.policy.types import Decoding
from tests.policy.tiny_model import completions, perturb, prompts


def outputs(policy):
    with torch.no_grad():
        return policy.analyze(completions(12))[:3]


def bytes_of(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def addresses(model):
    return [parameter.data_ptr() for parameter in model.parameters()]


def folded(model):
    """Return how many layers hold a folded adapter right now."""
    return sum(bool(getattr(module, "merged", False)) for module in model.modules())


@pytest.fixture
def changed(policy):
    """Return a policy whose adapter and value head are no longer fresh."""
    perturb(policy.model)
    torch.nn.init.normal_(policy.value_head.linear.weight, std=0.1)
    return policy


@pytest.mark.parametrize("role", ["policy", "reference"])
def test_inside_it_is_the_same_policy(changed, role):
    with changed.acting_as("reference") if role == "reference" else nullcontext():
        before = outputs(changed)
        adapted = role == "policy" or "reference" in changed.adapters
        with merged(changed.model):
            assert (folded(changed.model) > 0) == adapted
            for inside, outside in zip(outputs(changed), before, strict=True):
                torch.testing.assert_close(inside, outside, atol=1e-5, rtol=1e-5)


def test_encoder_and_decoder_layers_are_all_folded(tiny, changed):
    layers = [module for module in changed.model.modules() if hasattr(module, "lora_A")]
    with merged(changed.model):
        assert folded(changed.model) == len(layers) > 0
    assert folded(changed.model) == 0


def test_afterwards_every_byte_lies_where_it_lay(changed):
    before, places = bytes_of(changed.model), addresses(changed.model)
    with merged(changed.model):
        assert bytes_of(changed.model) != before
    changed.complete(prompts(4), Decoding(3), samples=2, seed=0, batch_size=8)
    assert bytes_of(changed.model) == before
    assert addresses(changed.model) == places


def test_also_after_an_error(changed, monkeypatch):
    before, expected = bytes_of(changed.model), outputs(changed)
    with pytest.raises(ZeroDivisionError), merged(changed.model):
        raise ZeroDivisionError
    monkeypatch.setattr(changed, "_text", lambda ids: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        changed.complete(prompts(4), Decoding(3), samples=2, seed=0, batch_size=8)
    assert bytes_of(changed.model) == before
    assert folded(changed.model) == 0
    assert all(map(torch.equal, outputs(changed), expected))


def test_switching_to_the_base_inside_leaves_no_trace(changed):
    before = bytes_of(changed.model)
    with changed.acting_as("base"):
        expected = outputs(changed)
    with merged(changed.model), changed.acting_as("base"):
        for inside, outside in zip(outputs(changed), expected, strict=True):
            torch.testing.assert_close(inside, outside, atol=1e-5, rtol=1e-5)
    assert bytes_of(changed.model) == before


def test_an_adapter_on_a_shared_weight_changes_its_own_module_alone(tiny, workplace):
    base = loading.load_base("exp", tiny.model())
    base.get_output_embeddings().weight = base.get_input_embeddings().weight
    policy = tiny.policy_of(
        get_peft_model(base, loading.lora_config(tiny.model(), tiny.lora(target_modules=["lm_head"])))
    )
    perturb(policy.model)
    before, places = outputs(policy), bytes_of(policy.model)
    with merged(policy.model):
        for inside, outside in zip(outputs(policy), before, strict=True):
            torch.testing.assert_close(inside, outside, atol=1e-5, rtol=1e-5)
    assert bytes_of(policy.model) == places


def test_in_bfloat16_nothing_is_folded(changed):
    changed.model.to(torch.bfloat16)
    with merged(changed.model):
        assert folded(changed.model) == 0
