"""What tuning looks at: the dev prompts, the reward scorer, and nothing that a missing score could flatter."""

import math

import pytest
import torch

from pipeline.policy.dev_check import dev_check
from pipeline.policy.types import Decoding
from pipeline.scorers.keyword import KeywordScorer, load
from tests.policy import tiny_llama

HARSH = load("harsh", KeywordScorer(kind="keyword", keywords=list(tiny_llama.HARSH), saturation=2))


class Forgetful:
    """The same scorer, unable to score every third text."""

    name, fingerprint = "forgetful", "0" * 64

    def score(self, texts):
        return [None if place % 3 == 0 else HARSH.score([text])[0] for place, text in enumerate(texts)]


@pytest.fixture
def tiny():
    """One architecture is enough: the check is made above the seam."""
    return tiny_llama.LLAMA


def checked(policy, scorer=HARSH, demonstrations=None, **changes):
    section = tiny_llama.section("dev", samples_per_prompt=3, max_new_tokens=8, batch_size=16, **changes)
    return dev_check(policy, tiny_llama.prompts(20), scorer, section, demonstrations)


def test_a_fresh_policy_has_no_kl(policy):
    assert checked(policy)["kl"] == pytest.approx(0, abs=1e-4)


def test_the_bare_base_has_kl_exactly_zero(base):
    assert checked(base)["kl"] == 0


def test_a_changed_policy_has_kl(policy):
    tiny_llama.perturb(policy.model)
    assert checked(policy, top_p=1.0)["kl"] > 0.1


def test_what_a_changed_policy_says_is_less_likely_under_the_base(workplace):
    policy = tiny_llama.new_policy()
    before = checked(policy, top_p=1.0)
    tiny_llama.perturb(policy.model)
    assert checked(policy, top_p=1.0)["perplexity_median"] > 1.1 * before["perplexity_median"]


def test_toxicity_is_the_mean_over_what_could_be_scored(base):
    full, part = checked(base), checked(base, Forgetful())
    assert (full["completions"], full["missing"]) == (60, 0)
    assert (part["completions"], part["missing"]) == (60, 20)
    dev = tiny_llama.section("dev")
    decoding = Decoding(8, dev.temperature, dev.top_p)
    items = base.complete(tiny_llama.prompts(20), decoding, samples=3, seed=dev.seed, batch_size=60)
    texts = [item.text for item in items]
    assert full["toxicity_mean"] == pytest.approx(sum(HARSH.score(texts)) / 60)
    assert part["toxicity_mean"] == pytest.approx(
        sum(HARSH.score([text for place, text in enumerate(texts) if place % 3])) / 40
    )
    assert full["length_mean"] == pytest.approx(sum(len(item.text_token_ids) for item in items) / 60)


def test_a_scorer_that_scores_nothing_gives_a_missing_mean_and_not_zero(base):
    class Silent(Forgetful):
        def score(self, texts):
            return [None] * len(texts)

    found = checked(base, Silent())
    assert found["toxicity_mean"] is None
    assert found["missing"] == found["completions"]


def test_a_policy_that_repeats_itself_has_one_pair_of_tokens(workplace):
    policy = tiny_llama.load("reference")
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
        policy.model.lm_head.weight[7, 0] = 100.0
    found = checked(policy)
    assert (found["length_mean"], found["finished_rate"]) == (8, 0)
    assert found["distinct_2"] == pytest.approx(1 / (60 * 7))


def test_perplexity_of_a_uniform_base_is_the_size_of_its_vocabulary(workplace):
    policy = tiny_llama.load("reference")
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
    assert checked(policy)["perplexity_median"] == pytest.approx(len(tiny_llama.VOCABULARY), rel=1e-4)
    assert math.isfinite(checked(policy)["kl"])


def test_rouge_is_the_mean_over_prompts_that_have_demonstrations_and_absent_without(workplace):
    policy = tiny_llama.load("reference")
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
        policy.model.lm_head.weight[7, 0] = 100.0
    said = tiny_llama.text((7,) * 8)
    first, second, *others = [prompt.id for prompt in tiny_llama.prompts(20)]
    demonstrations = {first: ["nothing of it", said], second: ["nothing of it"], **{name: [] for name in others}}
    assert checked(policy, demonstrations=demonstrations)["rouge_l"] == pytest.approx(0.5)
    assert checked(policy, demonstrations={first: ["…"]})["rouge_l"] is None
    assert "rouge_l" not in checked(policy, demonstrations={name: [] for name in others})
    assert "rouge_l" not in checked(policy)
