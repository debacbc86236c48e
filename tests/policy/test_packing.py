"""A prompt that completions share is read once, and what is computed stays what a plain forward pass computes."""

import logging
from pathlib import Path

import pytest
import torch
from transformers import (
    AttentionInterface,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from pipeline.policy.making import make_policy
from pipeline.policy.packing import pack
from pipeline.policy.types import Completion, Prompt
from tests.methods.trainings import train
from tests.policy import tiny_llama
from tests.policy.tiny_llama import plain
from tests.policy.tiny_model import END, START, VOCABULARY, TinyModel, save_base, section, tokenizer


def completions(rows):
    return [Completion.given(Prompt(str(prompt), "", tuple(prompt)), ids) for prompt, ids in rows]


ROWS = completions([([5, 6, 7], [8, 9]), ([4], [8]), ([5, 6, 7], [9, 9, END]), ([5, 6], [7, 8, 9]), ([5, 6, 7], [8])])
LONG = completions([(range(3, 43), [5] * 9), (range(3, 43), [6, 7]), (range(4, 40), [8]), (range(5, 38), [9] * 60)])
BATCHES = {
    "one": ROWS[:1],
    "completions of one prompt": [ROWS[index] for index in (0, 2, 4)],
    "of several": ROWS,
    "the same twice": [ROWS[0], ROWS[0]],
    "in several rows": ROWS + LONG,
}
SIZES = {"vocab_size": len(VOCABULARY), "bos_token_id": START, "eos_token_id": END, "pad_token_id": END}
LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
AttentionInterface.register("another", sdpa_attention_forward)


def gpt2(**changes):
    config = GPT2Config(**SIZES, n_positions=128, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2, **changes)
    return GPT2LMHeadModel(config)


def bloom():
    return BloomForCausalLM(BloomConfig(**SIZES, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2))


def gpt_neo():
    kinds = {"num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": 4}
    config = GPTNeoConfig(**SIZES, **kinds, hidden_size=32, num_heads=4, initializer_range=0.2)
    return GPTNeoForCausalLM(config)


def mistral(window):
    shared = {"num_key_value_heads": 2, "initializer_range": 0.2}
    return MistralForCausalLM(MistralConfig(**SIZES, **LAYERS, **shared, sliding_window=window))


def llama(attention):
    config = LlamaConfig(**SIZES, **LAYERS, initializer_range=0.2)
    config._attn_implementation = attention
    return LlamaForCausalLM(config)


PACKED = {
    "Llama": lambda: llama("sdpa"),
    "eager attention": lambda: llama("eager"),
    "GPT-2": gpt2,
    "Mistral without a window": lambda: mistral(None),
}
PLAIN = {
    "a sliding window": (lambda: mistral(4), "its layers do not see the whole text"),
    "local layers": (gpt_neo, "its layers do not see the whole text"),
    "ALiBi": (bloom, "the model"),
    "another attention": (lambda: llama("another"), "its attention is another"),
}


def policy_of(make):
    """Return a policy of a random model in float64, all of which learns."""
    torch.manual_seed(0)
    return make_policy("causal", make().double().eval(), tokenizer())


def trunk_tokens(policy, items):
    """Return how many tokens its decoder reads to analyze these."""
    read = []
    hook = policy.language_model.get_decoder().register_forward_pre_hook(
        lambda _, __, given: read.append(given["input_ids"].numel()), with_kwargs=True
    )
    policy.analyze(items)
    hook.remove()
    return sum(read)


def check_against_plain(policy, items):
    """Hold log-probabilities, entropies, and the gradient of the first to one forward pass a completion."""
    found = policy.analyze(items)
    found.logprobs.sum().backward()
    gradients = [item.grad.clone() for item in policy.model.parameters()]
    policy.model.zero_grad()
    for row, item in enumerate(items):
        size = len(item.token_ids)
        ids = torch.tensor([item.prompt.token_ids + item.token_ids])
        logits = policy.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        told = torch.distributions.Categorical(logits=logits[0, len(item.prompt.token_ids) - 1 : -1])
        logprobs, entropy = told.log_prob(torch.tensor(item.token_ids)), told.entropy()
        logprobs.sum().backward()
        torch.testing.assert_close(found.logprobs[row, :size].double(), logprobs, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.entropy[row, :size].double(), entropy, atol=1e-5, rtol=0)
        assert not found.logprobs[row, size:].any() and found.mask[row].sum() == size
    for one, other in zip(gradients, [item.grad for item in policy.model.parameters()], strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("items", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("make", PACKED.values(), ids=PACKED)
def test_a_packed_analysis_is_a_plain_forward_and_its_gradient(make, items, caplog):
    policy = policy_of(make)
    check_against_plain(policy, items)
    assert "prompts are read once" not in caplog.text


@pytest.mark.parametrize(("make", "reason"), PLAIN.values(), ids=PLAIN)
def test_a_model_that_takes_no_such_mask_reads_every_completion_whole_and_says_so_once(make, reason, caplog):
    policy = policy_of(make)
    with caplog.at_level(logging.WARNING):
        check_against_plain(policy, ROWS)
    (line,) = [record.getMessage() for record in caplog.records if "prompts are read" in record.getMessage()]
    assert line.startswith(f"prompts are read once for every completion of theirs, not once for all: {reason}")
    assert "\n" not in line
    assert trunk_tokens(policy, ROWS) == len(ROWS) * 6


def test_a_prompt_is_read_once_and_a_last_token_never():
    policy = policy_of(PACKED["Llama"])
    policy.analyze(ROWS)  # tries the model's attention
    assert trunk_tokens(policy, ROWS) == (3 + 1 + 2 + 0) + 1 + (2 + 2)
    assert trunk_tokens(policy, BATCHES["completions of one prompt"]) == 3 + 1 + 2 + 0
    with torch.no_grad():
        assert trunk_tokens(policy, ROWS) == 11
    sizes = []
    policy.language_model.get_output_embeddings().register_forward_hook(
        lambda _, __, output: sizes.append(output.shape[:-1].numel())
    )
    policy.analyze(ROWS)
    assert sizes == [sum(len(item.token_ids) for item in ROWS)], "logits are computed where they are needed"


@pytest.mark.parametrize("items", BATCHES.values(), ids=BATCHES)
def test_every_token_sees_its_own_text_up_to_itself_and_nothing_else(items):
    packed = pack(items, torch.device("cpu"))
    width = packed.ids.shape[1]
    before = packed.before.split([len(item.token_ids) for item in items])
    for item, places in zip(items, before, strict=True):
        text = (item.prompt.token_ids + item.token_ids)[:-1]
        row, last = divmod(places[-1].item(), width)
        seen = packed.visible[row, last].nonzero().flatten()
        assert packed.ids[row, seen].tolist() == list(text)
        assert packed.positions[row, seen].tolist() == list(range(len(text)))
        assert (places - row * width).tolist() == seen[len(item.prompt.token_ids) - 1 :].tolist()
        for number, place in enumerate(seen.tolist(), start=1):
            assert packed.visible[row, place].nonzero().flatten().tolist() == seen[:number].tolist()
    assert packed.visible.any(dim=2).all(), "padding sees something, or its softmax is NaN"


def test_many_long_completions_of_a_prompt_share_it_in_groups():
    items = completions([(range(3, 43), [token] * 60) for token in range(3, 33)])
    assert max(pack(items, torch.device("cpu")).ids.shape) <= 1024
    check_against_plain(policy_of(lambda: llama("sdpa")), items)


def test_the_gradient_is_the_same_bits_each_time_whatever_the_threads():
    items, before = completions([([5, 6, 7, 8], range(3, 19))] * 8), torch.get_num_threads()
    config = LlamaConfig(**SIZES, **LAYERS | {"hidden_size": 576, "num_hidden_layers": 1}, initializer_range=0.05)
    policy = policy_of(lambda: LlamaForCausalLM(config))
    policy.model.float()
    found = []
    torch.set_num_threads(4)
    try:
        for _ in range(10):
            policy.model.zero_grad()
            policy.analyze(items).logprobs.sum().backward()
            found.append(torch.cat([item.grad.flatten() for item in policy.model.parameters()]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


def test_short_groups_share_a_row_and_long_ones_do_not_widen_it():
    assert pack(ROWS, torch.device("cpu")).ids.shape == (1, 11)
    rows, width = pack(ROWS + LONG, torch.device("cpu")).ids.shape
    assert rows == 2 and width <= 128


@pytest.mark.parametrize("asked", ["takes masks", "same bits"])
def test_a_model_with_dropout_of_its_own_is_as_any_other(asked, tmp_path: Path, monkeypatch, caplog):
    """GPT-2's prompts are read once in SFT too, and a continued training ends with the same bits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    torch.manual_seed(0)
    save_base(gpt2(), END)
    tiny = TinyModel("causal", ("c_attn",), 0.0, tiny_llama.write_base, plain)
    settings = section("sft", epochs=1, batch_size=4, gradient_accumulation=1)
    kept = [tiny_llama.checkpoints("sft", every=every) for every in (0, 1, 1)]
    curves = []
    for checkpoints, until in zip(kept, (9, 2, 9), strict=True):

        def report(step, _, until=until):
            if step == until:
                raise InterruptedError

        try:
            policy = tiny.new_policy()
            curves.append(train(policy, "sft", tiny_llama.pairs(12), settings, checkpoints=checkpoints, report=report))
        except InterruptedError:
            continue
    if asked == "takes masks":
        assert "prompts are read once" not in caplog.text
    else:
        assert curves[0].curves == curves[1].curves
