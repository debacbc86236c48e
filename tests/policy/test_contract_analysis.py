"""What a policy thinks of completions, held to one plain forward pass of the whole model for each of them."""

import dataclasses

import pytest
import torch

from pipeline.io.errors import NotFiniteError
from pipeline.policy.language_model import READ_AT_ONCE
from pipeline.policy.sampling import token_statistics
from pipeline.policy.types import Decoding
from tests.policy.tiny_model import END, VOCABULARY, completions, perturb, prompts


@pytest.fixture
def changed(policy):
    """Return a policy whose adapter and value head are no longer fresh."""
    perturb(policy.model)
    torch.nn.init.normal_(policy.value_head.linear.weight)
    return policy


def plain_statistics(tiny, policy, item):
    """Return log-probabilities, entropies and values [T] of one completion, from a plain forward pass."""
    logits, hidden = tiny.plain(policy.model, item)
    distribution = torch.distributions.Categorical(logits=logits)
    with torch.no_grad():
        values = policy.value_head(hidden)
    return distribution.log_prob(torch.tensor(item.token_ids)), distribution.entropy(), values


def sampled(policy, decoding=None):
    # In one batch of more prompts than are read at once: what was read has to be joined.
    return policy.complete(prompts(2 * READ_AT_ONCE + 3), decoding or Decoding(8), samples=2, seed=0, batch_size=100)


@pytest.mark.parametrize("grad", [False, True])
def test_an_analysis_is_a_plain_forward(tiny, changed, grad):
    items = completions(40)
    with torch.set_grad_enabled(grad):
        found = changed.analyze(items)
    assert found.logprobs.requires_grad == found.values.requires_grad == grad
    for row, item in enumerate(items):
        size = len(item.token_ids)
        for whole, expected in zip(found[:3], plain_statistics(tiny, changed, item), strict=True):
            torch.testing.assert_close(whole[row, :size], expected, atol=1e-4, rtol=0)
        assert found.mask[row].tolist() == [True] * size + [False] * (found.mask.shape[1] - size)


@pytest.mark.parametrize("decoding", [Decoding(8), Decoding(8, temperature=0.7, top_p=0.8)])
def test_a_trace_is_a_plain_forward(tiny, changed, decoding):
    for item in sampled(changed, decoding):
        for seen, expected in zip(item.trace, plain_statistics(tiny, changed, item), strict=True):
            torch.testing.assert_close(torch.tensor(seen), expected, atol=1e-4, rtol=0)


def test_under_reference_and_base_it_is_their_plain_forward(tiny, changed):
    items = completions(12)
    for role in ("reference", "base"):
        with changed.acting_as(role):
            found = changed.analyze(items)
            for row, item in enumerate(items):
                expected = plain_statistics(tiny, changed, item)[0]
                torch.testing.assert_close(found.logprobs[row, : len(expected)], expected, atol=1e-4, rtol=0)


def test_what_is_recalled_is_what_is_analyzed(changed):
    items = sampled(changed)
    with torch.no_grad():
        expected = changed.analyze(items)
    recalled = changed.analyze(items, recall=True)
    assert torch.equal(recalled.mask, expected.mask)
    for one, other in zip(recalled[:3], expected[:3], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grad", [False, True])
def test_padding_and_company_change_nothing(changed, grad):
    items = completions(40)
    with torch.set_grad_enabled(grad):
        together = changed.analyze(items)
        for row, item in enumerate(items):
            size = len(item.token_ids)
            for whole, alone in zip(together, changed.analyze([item]), strict=True):
                torch.testing.assert_close(whole[row, :size], alone[0], atol=1e-5, rtol=1e-5)
                assert not whole[row, size:].any(), "padding holds something"


def test_the_order_of_completions_is_the_order_of_the_analysis(changed):
    items = completions(40)
    with torch.no_grad():
        there, back = changed.analyze(items), changed.analyze(items[::-1])
    for one, other in zip(there, back, strict=True):
        torch.testing.assert_close(one, other.flip(0), atol=1e-5, rtol=1e-5)


def test_which_token_pads_changes_nothing(changed):
    items, drawn = completions(40), sampled(changed)
    with torch.no_grad():
        before = changed.analyze(items)
        changed.tokenizer.pad_token = VOCABULARY[9]
        torch.testing.assert_close(changed.analyze(items), before, atol=1e-5, rtol=1e-5)
    assert [item.token_ids for item in sampled(changed)] == [item.token_ids for item in drawn]


def test_the_future_and_the_padding_token_are_out_of_sight(policy):
    item = completions(1)[0]
    longer = dataclasses.replace(item, token_ids=(*item.token_ids, END, 5, END))
    with torch.no_grad():
        short, long = policy.analyze([item]).logprobs[0], policy.analyze([longer]).logprobs[0]
    torch.testing.assert_close(long[: len(short)], short, atol=1e-5, rtol=1e-5)
    assert (long[len(short) :] < 0).all(), "END is a token like any other where the completion holds it"


def test_every_token_of_prompt_and_completion_counts(policy):
    item = max(completions(20), key=lambda each: min(len(each.prompt.token_ids), len(each.token_ids)))
    other = dataclasses.replace(
        item.prompt, token_ids=(*item.prompt.token_ids[:-1], 3 + item.prompt.token_ids[-1] % 40)
    )
    first = dataclasses.replace(item.prompt, token_ids=(3 + item.prompt.token_ids[0] % 40, *item.prompt.token_ids[1:]))
    with torch.no_grad():
        usual = policy.analyze([item]).logprobs
        for prompt in (other, first):
            assert (policy.analyze([dataclasses.replace(item, prompt=prompt)]).logprobs != usual).all()
        begun = dataclasses.replace(item, token_ids=(3 + item.token_ids[0] % 40, *item.token_ids[1:]))
        assert (policy.analyze([begun]).logprobs != usual).all()


def test_a_fresh_value_head_says_zero(policy):
    assert not policy.analyze(completions(4)).values.any()


def test_every_layer_of_the_adapter_learns_from_likelihood_and_from_value(changed):
    for name in ("logprobs", "values"):
        changed.model.zero_grad()
        getattr(changed.analyze(completions(4)), name).sum().backward()
        gradients = [parameter.grad for parameter in changed.trainable()["adapter"]]
        assert gradients and all(gradient is not None and gradient.any() for gradient in gradients), name


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_noticed_while_sampling(changed, broken):
    with torch.no_grad():
        changed.trainable()["adapter"][0].fill_(broken)
    with pytest.raises(NotFiniteError):
        sampled(changed)


def test_the_entropy_of_equal_logits_is_the_log_of_their_number():
    logprobs, entropy = token_statistics(torch.zeros(3, 50), torch.tensor([0, 7, 49]))
    expected = torch.tensor(50.0).log()
    torch.testing.assert_close(entropy, expected.expand(3))
    torch.testing.assert_close(logprobs, -expected.expand(3))
