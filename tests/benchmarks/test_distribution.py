"""The tests of the sampler's distribution: a right sampler passes, a wrong one is found out."""

import numpy as np
import pytest

from benchmarks import distribution
from benchmarks.distribution import Drawn
from benchmarks.sampling_cases import Case, until_stop
from pipeline.policy.types import Decoding
from tests.policy import tiny_llama

SKEWED = np.array([0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.015, 0.004, 0.001])


def draw(probabilities, count, seed=0):
    return np.random.default_rng(seed).choice(len(probabilities), size=count, p=probabilities)


def completed(policy, decoding, seeds=8):
    """Return many completions of a few prompts."""
    prompts = tiny_llama.prompts(16)
    drawn = [
        item for seed in range(seeds) for item in policy.complete(prompts, decoding, samples=2, seed=seed, batch_size=8)
    ]
    return [Drawn(item.prompt.id, item.prompt.token_ids, item.token_ids) for item in drawn]


def test_p_values_of_a_right_first_token_are_uniform():
    p_values = [distribution.first_token_p(draw(SKEWED, 500, seed), SKEWED) for seed in range(400)]
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=0.05)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_a_cut_tail_shows_in_the_first_token():
    cut = np.where(SKEWED >= 0.05, SKEWED, 0)
    assert distribution.first_token_p(draw(cut / cut.sum(), 2000), SKEWED) < 1e-6


def test_tokens_that_are_too_rare_for_a_bin_of_their_own_are_no_obstacle():
    with_dust = np.append(SKEWED * 0.999999, np.full(10, 1e-7))
    assert distribution.first_token_p(draw(SKEWED, 2000), with_dust) > 0.001


def test_exact_probabilities_are_those_of_one_sequence_alone(base):
    drawn = completed(base, Decoding(6), seeds=1)
    assert len({len(item.prompt) for item in drawn}) > 3, "lengths must differ, so that padding could do harm"
    found = distribution.exact(base.model, drawn)
    for item, exact in zip(drawn, found, strict=True):
        probabilities = distribution.first_token_probabilities(base.model, item.prompt)
        own = probabilities[item.tokens[0]]
        assert exact.probability[0] == pytest.approx(own, rel=1e-4)
        assert exact.above[0] == pytest.approx(probabilities[probabilities > own].sum(), abs=1e-5)
        assert len(exact.probability) == len(item.tokens)


def test_our_sampler_draws_every_token_from_the_models_distribution(base):
    drawn = completed(base, Decoding(6))
    assert distribution.token_rank_p(distribution.exact(base.model, drawn), seed=0) > 0.01


@pytest.mark.parametrize("wrong", [Decoding(6, temperature=0.9), Decoding(6, top_p=0.9)], ids=["temperature", "top_p"])
def test_another_distribution_shows_in_the_ranks_of_the_tokens(base, wrong):
    drawn = completed(base, wrong)
    assert distribution.token_rank_p(distribution.exact(base.model, drawn), seed=0) < 1e-4


def test_p_values_are_uniform_where_only_the_prompts_differ():
    from scipy.stats import ks_2samp

    generator = np.random.default_rng(0)
    prompts = np.repeat([f"p{index}" for index in range(40)], 5)
    shift = np.repeat(np.arange(40) * 0.2, 5)
    samples = [(shift + generator.normal(size=200), shift + generator.normal(size=200)) for _ in range(100)]
    p_values = [
        distribution.two_sample_p((first, prompts), (second, prompts), 199, seed)
        for seed, (first, second) in enumerate(samples)
    ]
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.12)
    assert np.mean(np.array(p_values) < 0.1) == pytest.approx(0.1, abs=0.07)
    assert np.mean([ks_2samp(*pair).pvalue for pair in samples]) > 0.7, "the plain test would do: then use it"


def test_two_samples_that_differ_within_prompts_are_found_out():
    generator = np.random.default_rng(0)
    prompts = np.repeat([f"p{index}" for index in range(40)], 5)
    first, second = generator.normal(size=200), generator.normal(size=200) + 0.8
    assert distribution.two_sample_p((first, prompts), (second, prompts), 999, seed=0) == pytest.approx(0.001)


def test_a_p_value_is_never_zero_and_one_when_nothing_differs():
    values, prompts = np.arange(20.0), ["p"] * 20
    assert distribution.two_sample_p((values, prompts), (values, prompts), 99, seed=0) == 1.0


def test_ours_and_generate_complete_the_same_prompts_until_the_same_stops(base):
    prompts = tiny_llama.prompts(32)
    case = Case("tiny", base.model, tiny_llama.tokenizer(), prompts, new_tokens=8)
    for sampler in (case.ours, case.generate):
        drawn = sampler(3)
        assert [(item.prompt_id, item.prompt) for item in drawn] == [(item.id, item.token_ids) for item in prompts]
        assert all(tiny_llama.END not in item.tokens[:-1] for item in drawn)
        assert {item.tokens[-1] == tiny_llama.END for item in drawn if len(item.tokens) < 8} == {True}
        assert max(len(item.tokens) for item in drawn) == 8


def test_generate_is_asked_for_the_whole_distribution(base):
    case = Case("tiny", base.model, tiny_llama.tokenizer(), tiny_llama.prompts(32), new_tokens=6)
    drawn = [item for seed in range(6) for item in case.generate(seed)]
    assert distribution.token_rank_p(distribution.exact(base.model, drawn), seed=0) > 0.01


def test_what_generate_pads_after_a_stop_is_no_token():
    assert until_stop([5, 6, 2, 2, 2], [2, 9]) == (5, 6, 2)
    assert until_stop([5, 6, 7], [2]) == (5, 6, 7)
