"""Completions: keyed noise that no arrangement can change, where they end, and what their text holds."""

import pytest
import torch

from pipeline.policy import Decoding
from tests.policy import tiny_llama
from tests.policy.tiny_llama import END, START

ENDING = 1.3  # makes END the likeliest token by far


def complete(policy, prompts, *, samples=4, seed=0, batch_size=16, decoding=None):
    found = policy.complete(
        prompts, decoding or Decoding(12), samples=samples, seed=seed, batch_size=batch_size, progress=None
    )
    return {(item.prompt.id, item.sample): item for item in found}


def ids(completions):
    return {key: item.token_ids for key, item in completions.items()}


@pytest.fixture
def ending(workplace):
    """A policy whose completions end early, some at once and some not at all."""
    tiny_llama.write_base(end_bias=ENDING)
    policy = tiny_llama.load("reference")
    lengths = [len(item.token_ids) for item in complete(policy, tiny_llama.prompts(12)).values()]
    assert len(set(lengths)) > 4 and min(lengths) == 1 and max(lengths) == 12, "the noise tests need early leaving"
    return policy


@pytest.mark.parametrize("batch_size", [1, 4, 13, 1000])
def test_batch_size_changes_no_completion(ending, batch_size):
    prompts = tiny_llama.prompts(12)
    assert ids(complete(ending, prompts, batch_size=batch_size)) == ids(complete(ending, prompts))


def test_the_order_of_prompts_changes_no_completion(ending):
    prompts = tiny_llama.prompts(12)
    assert ids(complete(ending, prompts[::-1])) == ids(complete(ending, prompts))


def test_a_shard_is_completed_as_the_whole_is(ending):
    prompts = tiny_llama.prompts(12)
    shards = [complete(ending, prompts[start::3]) for start in range(3)]
    assert ids(shards[0]) | ids(shards[1]) | ids(shards[2]) == ids(complete(ending, prompts))


def test_more_samples_keep_the_first_ones(ending):
    prompts = tiny_llama.prompts(12)
    few, many = complete(ending, prompts, samples=2), complete(ending, prompts, samples=5)
    assert ids(few).items() <= ids(many).items()


def test_a_longer_limit_continues_the_same_completions(ending):
    prompts = tiny_llama.prompts(12)
    short, long = complete(ending, prompts, decoding=Decoding(5)), complete(ending, prompts)
    assert {key: token_ids[:5] for key, token_ids in ids(long).items()} == ids(short)


def test_leaving_early_changes_no_completion(ending, monkeypatch):
    prompts = tiny_llama.prompts(12)
    usual = ids(complete(ending, prompts))
    for share in (0.0001, 2.0):  # as soon as one row is finished; never
        monkeypatch.setattr("pipeline.policy.causal._LEAVE_AT", share)
        assert ids(complete(ending, prompts)) == usual


def test_another_seed_sample_or_prompt_id_draws_other_tokens(base):
    prompts = tiny_llama.prompts(6)
    first = complete(base, prompts)
    assert all(ids(complete(base, prompts, seed=1))[key] != item.token_ids for key, item in first.items())
    assert len({item.token_ids for item in first.values()}) == len(first), "every sample has noise of its own"
    renamed = [type(prompt)(f"other {prompt.id}", prompt.text, prompt.token_ids) for prompt in prompts]
    assert not set(ids(complete(base, renamed)).values()) & set(ids(first).values())


def test_completions_come_as_the_prompts_do_with_all_samples_together(base):
    prompts = tiny_llama.prompts(7)
    found = base.complete(prompts, Decoding(2), samples=3, seed=0, batch_size=4)
    assert [(item.prompt, item.sample) for item in found] == [(prompt, n) for prompt in prompts for n in range(3)]


def test_end_stands_last_or_nowhere_and_only_it_finishes(ending):
    found = complete(ending, tiny_llama.prompts(30)).values()
    assert {item.finished for item in found} == {True, False}
    for item in found:
        assert END not in item.token_ids[:-1]
        assert item.finished == (item.token_ids[-1] == END)
        assert item.finished or len(item.token_ids) == 12


def test_every_stop_token_of_the_generation_config_ends_a_completion(workplace):
    stops = list(range(5, 25))
    tiny_llama.write_base(stop_tokens=stops)
    found = complete(tiny_llama.load("reference"), tiny_llama.prompts(20)).values()
    last = {item.token_ids[-1] for item in found if item.finished}
    assert len(last) > 5 and last <= {END, *stops}
    assert not any(set(item.token_ids[:-1]) & {END, *stops} for item in found)


def test_the_text_is_the_words_of_the_completion_alone(ending):
    found = complete(ending, tiny_llama.prompts(30)).values()
    assert any(START in item.token_ids for item in found), "a special token other than END was sampled"
    for item in found:
        words = [tiny_llama.VOCABULARY[token] for token in item.token_ids if token not in (0, START, END)]
        assert item.text.split() == words


@pytest.mark.parametrize("decoding", [Decoding(12), Decoding(12, temperature=0.7, top_p=0.8)])
def test_the_kept_log_probability_is_the_analyzed_one(policy, decoding):
    tiny_llama.perturb(policy.model)
    found = list(complete(policy, tiny_llama.prompts(20), decoding=decoding).values())
    with torch.no_grad():
        expected = policy.analyze(found).logprobs.double().sum(dim=1)
    kept = torch.tensor([item.logprob for item in found], dtype=torch.float64)
    torch.testing.assert_close(kept, expected, atol=1e-4, rtol=0)


def test_first_tokens_follow_the_model_s_own_distribution(base):
    prompt = tiny_llama.prompts(1)[0]
    found = base.complete([prompt], Decoding(1), samples=4000, seed=0, batch_size=4000)
    counts = torch.bincount(torch.tensor([item.token_ids[0] for item in found]), minlength=len(tiny_llama.VOCABULARY))
    with torch.no_grad():
        expected = torch.softmax(base.model(input_ids=torch.tensor([prompt.token_ids])).logits[0, -1], dim=-1)
    spread = (expected * (1 - expected) * 4000).sqrt()
    assert ((counts - 4000 * expected).abs() < 5 * spread + 1).all()
