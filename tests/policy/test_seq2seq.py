"""What only an encoder-decoder has: a prompt that is read once, a start token, and an output that may be scaled."""

import dataclasses

import pytest
import torch

from pipeline.io.errors import UserError
from pipeline.policy import loading
from pipeline.policy.types import Decoding
from tests.policy import tiny_t5
from tests.policy.tiny_model import completions, perturb, prompts


@pytest.fixture
def tiny():
    return tiny_t5.T5


@pytest.fixture
def policy(tiny, workplace):
    return tiny.new_policy()


@pytest.mark.parametrize("scaled", [True, False])
def test_the_output_is_scaled_as_the_model_scales_it_and_the_value_reads_it_unscaled(tiny, workplace, scaled):
    tiny.write_base(tie_word_embeddings=scaled)  # what T5's config takes for the sign of a scaled output
    policy = tiny.new_policy()
    assert policy.language_model.config.scale_decoder_outputs == scaled
    torch.nn.init.normal_(policy.value_head.linear.weight)
    items = completions(6)
    with torch.no_grad():
        found = policy.analyze(items)
        for row, item in enumerate(items):
            logits, hidden = tiny.plain(policy.model, item)
            size = len(item.token_ids)
            expected = torch.log_softmax(logits, dim=-1)[range(size), item.token_ids]
            torch.testing.assert_close(found.logprobs[row, :size], expected, atol=1e-4, rtol=0)
            torch.testing.assert_close(found.values[row, :size], policy.value_head(hidden), atol=1e-4, rtol=0)


def counted(policy, monkeypatch):
    """Return a list that grows by the number of prompts whenever the encoder reads some."""
    encoder, read = policy.language_model.get_encoder(), []
    monkeypatch.setattr(
        encoder, "forward", lambda *a, _old=encoder.forward, **k: read.append(len(k["input_ids"])) or _old(*a, **k)
    )
    return read


def test_the_encoder_reads_every_prompt_once_for_all_its_samples(policy, monkeypatch):
    read = counted(policy, monkeypatch)
    items = policy.complete(prompts(20), Decoding(6), samples=8, seed=0, batch_size=160)
    assert sum(read) == 20 and len(items) == 160
    read.clear()
    policy.analyze(items)
    assert sum(read) == 20


def test_cross_attention_is_computed_once_per_prompt(policy, monkeypatch):
    keys = policy.language_model.decoder.block[0].layer[1].EncDecAttention.k
    rows = []
    keys.register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    policy.complete(prompts(20), Decoding(6), samples=8, seed=0, batch_size=160)
    assert sum(rows) == 20


def test_prompts_that_are_told_apart_by_samples_alone_share_their_reading(policy):
    (item, *_) = completions(1)
    twins = [dataclasses.replace(item, sample=sample) for sample in range(3)]
    together = policy.analyze(twins).logprobs
    assert torch.equal(together[0], together[1]) and torch.equal(together[0], together[2])


def test_the_encoder_learns(policy):
    perturb(policy.model)
    policy.analyze(completions(4)).logprobs.sum().backward()
    sides = {".encoder.": 0, ".decoder.": 0}
    for name, parameter in policy.model.named_parameters():
        if parameter.grad is not None and parameter.grad.any():
            sides[next(side for side in sides if side in name)] += 1
    assert sides == {".encoder.": 2 * 2 * 2, ".decoder.": 2 * 4 * 2}, (
        "A and B of q and v: 2 + 2 layers, cross attention"
    )


def test_a_checkpoint_that_names_no_start_token_is_refused(tiny, workplace):
    tiny.write_base(decoder_start_token_id=None)
    model = loading.load_base("exp", tiny.model())
    with pytest.raises(UserError, match="decoder_start_token_id .*model.source"):
        tiny.policy_of(model)
