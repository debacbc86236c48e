"""Completions: keyed noise that no arrangement can change, where they end, and what their text holds."""

import dataclasses

import pytest
import torch

from pipeline.policy.language_model import READ_AT_ONCE
from pipeline.policy.types import Completion, Decoding
from tests.policy import tiny_model
from tests.policy.tiny_model import END, NOT_SAMPLED, START, VOCABULARY

PROMPTS = tiny_model.prompts(READ_AT_ONCE + 5)  # more than are read at once


def complete(policy, prompts, *, samples=4, seed=0, batch_size=16, decoding=None):
    found = policy.complete(
        prompts, decoding or Decoding(12), samples=samples, seed=seed, batch_size=batch_size, progress=None
    )
    return {(item.prompt.id, item.sample): item for item in found}


def ids(completions):
    return {key: item.token_ids for key, item in completions.items()}


@pytest.fixture
def ending(tiny, workplace):
    """A policy whose completions end early, some at once and some not at all."""
    tiny.write_base(end_bias=tiny.ending)
    policy = tiny.load("reference")
    lengths = [len(item.token_ids) for item in complete(policy, PROMPTS).values()]
    assert len(set(lengths)) > 4 and min(lengths) == 1 and max(lengths) == 12, "the noise tests need early leaving"
    return policy


@pytest.mark.parametrize("batch_size", [1, 4, 13, 1000])
def test_batch_size_changes_no_completion(ending, batch_size):
    assert ids(complete(ending, PROMPTS, batch_size=batch_size)) == ids(complete(ending, PROMPTS))


def test_the_order_of_prompts_changes_no_completion(ending):
    assert ids(complete(ending, PROMPTS[::-1])) == ids(complete(ending, PROMPTS))


@pytest.mark.parametrize("shards", [2, 3])
def test_a_shard_is_completed_as_the_whole_is(ending, shards):
    found = {}
    for start in range(shards):
        found |= complete(ending, PROMPTS[start::shards])
    assert ids(found) == ids(complete(ending, PROMPTS))


def test_more_samples_keep_the_first_ones(ending):
    few, many = complete(ending, PROMPTS, samples=2), complete(ending, PROMPTS, samples=5)
    assert ids(few).items() <= ids(many).items()


def test_a_longer_limit_continues_the_same_completions(ending):
    short, long = complete(ending, PROMPTS, decoding=Decoding(5)), complete(ending, PROMPTS)
    assert {key: token_ids[:5] for key, token_ids in ids(long).items()} == ids(short)


def test_leaving_early_changes_no_completion(ending, monkeypatch):
    usual = ids(complete(ending, PROMPTS))
    for share in (0.0001, 2.0):  # as soon as one row is finished; never
        monkeypatch.setattr("pipeline.policy.language_model._LEAVE_AT", share)
        assert ids(complete(ending, PROMPTS)) == usual


def test_another_seed_sample_or_prompt_id_draws_other_tokens(base):
    prompts = tiny_model.prompts(6)
    first = complete(base, prompts)
    assert all(ids(complete(base, prompts, seed=1))[key] != item.token_ids for key, item in first.items())
    assert len({item.token_ids for item in first.values()}) == len(first), "every sample has noise of its own"
    renamed = [dataclasses.replace(prompt, id=f"other {prompt.id}") for prompt in prompts]
    assert not set(ids(complete(base, renamed)).values()) & set(ids(first).values())


def test_completions_come_as_the_prompts_do_with_all_samples_together(base):
    prompts = tiny_model.prompts(7)
    found = base.complete(prompts, Decoding(2), samples=3, seed=0, batch_size=4)
    assert [(item.prompt, item.sample) for item in found] == [(prompt, n) for prompt in prompts for n in range(3)]


def test_end_stands_last_or_nowhere_and_only_it_finishes(ending):
    found = complete(ending, tiny_model.prompts(30)).values()
    assert {item.finished for item in found} == {True, False}
    for item in found:
        assert END not in item.token_ids[:-1]
        assert item.finished == (item.token_ids[-1] == END)
        assert item.finished or len(item.token_ids) == 12


def test_a_trace_has_an_entry_for_every_token(ending):
    for item in complete(ending, PROMPTS).values():
        assert [len(column) for column in item.trace] == [len(item.token_ids)] * 3


def test_every_stop_token_of_the_generation_config_ends_a_completion(tiny, workplace):
    stops = list(range(5, 25))
    tiny.write_base(stop_tokens=stops)
    found = complete(tiny.load("reference"), tiny_model.prompts(20)).values()
    last = {item.token_ids[-1] for item in found if item.finished}
    assert len(last) > 5 and last <= {END, *stops}
    assert not any(set(item.token_ids[:-1]) & {END, *stops} for item in found)


def test_the_text_is_the_words_of_the_completion_alone(ending):
    found = complete(ending, tiny_model.prompts(30)).values()
    assert any(START in item.token_ids for item in found), "a special token other than END was sampled"
    for item in found:
        words = [VOCABULARY[token] for token in item.token_ids if token not in (0, START, END)]
        assert item.text.split() == words


def test_first_tokens_follow_the_model_s_own_distribution(tiny, base):
    prompt = PROMPTS[0]
    found = base.complete([prompt], Decoding(1), samples=4000, seed=0, batch_size=4000)
    counts = torch.bincount(torch.tensor([item.token_ids[0] for item in found]), minlength=len(VOCABULARY))
    logits, _ = tiny.plain(base.model, Completion(prompt, 0, (END,), True, "", NOT_SAMPLED))
    expected = torch.softmax(logits[0], dim=-1)
    spread = (expected * (1 - expected) * 4000).sqrt()
    assert ((counts - 4000 * expected).abs() < 5 * spread + 1).all()
