"""What a policy thinks of given completions, held to one plain forward pass a completion."""

import dataclasses

import pytest
import torch

from pipeline.policy.sampling import token_statistics
from tests.policy import tiny_llama


def plain_logits(model, completion):
    """Return the logits [T, V] before every token of one completion, from the whole model with nothing batched."""
    ids = torch.tensor([completion.prompt.token_ids + completion.token_ids])
    start = len(completion.prompt.token_ids)
    with torch.no_grad():
        return model(input_ids=ids).logits[0, start - 1 : -1]


@pytest.mark.parametrize("grad", [False, True])
def test_log_probabilities_and_entropies_are_those_of_a_plain_forward(policy, grad):
    tiny_llama.perturb(policy.model)
    items = tiny_llama.completions(40)
    with torch.set_grad_enabled(grad):
        found = policy.analyze(items)
    assert found.logprobs.requires_grad == grad
    for row, item in enumerate(items):
        logits = plain_logits(policy.model, item)
        size, tokens = len(item.token_ids), torch.tensor(item.token_ids)
        distribution = torch.distributions.Categorical(logits=logits)
        torch.testing.assert_close(found.logprobs[row, :size], distribution.log_prob(tokens), atol=1e-4, rtol=0)
        torch.testing.assert_close(found.entropy[row, :size], distribution.entropy(), atol=1e-4, rtol=0)
        assert found.mask[row].tolist() == [True] * size + [False] * (found.mask.shape[1] - size)


def test_a_value_is_read_from_the_state_before_its_token(policy):
    torch.nn.init.normal_(policy.value_head.linear.weight)
    items = tiny_llama.completions(6)
    with torch.no_grad():
        found = policy.analyze(items)
        for row, item in enumerate(items):
            ids = torch.tensor([item.prompt.token_ids + item.token_ids])
            hidden = policy.model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0]
            before = hidden[len(item.prompt.token_ids) - 1 : -1]
            expected = policy.value_head(before)
            torch.testing.assert_close(found.values[row, : len(item.token_ids)], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grad", [False, True])
def test_padding_and_company_change_nothing(policy, grad):
    torch.nn.init.normal_(policy.value_head.linear.weight)
    tiny_llama.perturb(policy.model)
    items = tiny_llama.completions(40)
    with torch.set_grad_enabled(grad):
        together = policy.analyze(items)
        for row, item in enumerate(items):
            size = len(item.token_ids)
            for whole, alone in zip(together, policy.analyze([item]), strict=True):
                torch.testing.assert_close(whole[row, :size], alone[0], atol=1e-5, rtol=1e-5)
                assert not whole[row, size:].any(), "padding holds something"


def test_the_future_and_the_padding_token_are_out_of_sight(policy):
    item = tiny_llama.completions(1)[0]
    longer = dataclasses.replace(item, token_ids=(*item.token_ids, tiny_llama.END, 5, tiny_llama.END))
    with torch.no_grad():
        short, long = policy.analyze([item]).logprobs[0], policy.analyze([longer]).logprobs[0]
    torch.testing.assert_close(long[: len(short)], short, atol=1e-5, rtol=1e-5)
    assert (long[len(short) :] < 0).all(), "END is a token like any other where the completion holds it"


def test_a_fresh_value_head_says_zero(policy):
    assert not policy.analyze(tiny_llama.completions(4)).values.any()


def test_the_trunk_learns_from_the_value_too(policy):
    torch.nn.init.normal_(policy.value_head.linear.weight)
    tiny_llama.perturb(policy.model)  # B = 0 would leave A without a gradient
    policy.analyze(tiny_llama.completions(4)).values.sum().backward()
    gradients = [parameter.grad for parameter in policy.trainable()["adapter"]]
    assert all(gradient is not None and gradient.any() for gradient in gradients)


def test_the_entropy_of_equal_logits_is_the_log_of_their_number():
    logprobs, entropy = token_statistics(torch.zeros(3, 50), torch.tensor([0, 7, 49]))
    expected = torch.tensor(50.0).log()
    torch.testing.assert_close(entropy, expected.expand(3))
    torch.testing.assert_close(logprobs, -expected.expand(3))
