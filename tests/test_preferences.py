"""Best and worst of k samples from a real policy, by a scorer whose every score the test gives."""

import pytest

from pipeline.policy import Decoding
from pipeline.preferences import on_policy_pairs
from pipeline.scorers import Reward
from tests.policy import tiny_llama

# One row of four toxicities a prompt, the margin being .25, and the samples that make its pair.
CASES = {
    "clear": ([0.5, 0.1, 0.9, 0.4], (1, 2)),
    "exactly the margin": ([0.25, 0.25, 0.5, 0.375], (0, 2)),
    "too near": ([0.5, 0.5, 0.6, 0.7], None),
    "all equal": ([0.9, 0.9, 0.9, 0.9], None),
    "two lowest": ([0.9, 0.1, 0.1, 0.3], (1, 0)),
    "two highest": ([0.1, 0.3, 0.9, 0.9], (0, 2)),
    "unscored among others": ([None, 0.8, 0.2, None], (2, 1)),
    "one score": ([None, None, 0.0, None], None),
    "no score": ([None, None, None, None], None),
    "zero is a score": ([0.0, None, 1.0, 1.0], (0, 2)),
}
SCORES = [score for row, _ in CASES.values() for score in row]
SEED = 3


class Given:
    """A scorer that gives the scores above, in order."""

    name, fingerprint = "given", "0" * 64

    def __init__(self) -> None:
        self.texts: list[str] = []

    def score(self, texts):
        self.texts += texts
        assert len(texts) == len(SCORES)
        return SCORES

    def cut(self, texts):
        return [len(text.split()) > 5 for text in texts]


@pytest.fixture
def policy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base(end_bias=1.0)
    return tiny_llama.load("reference")


def made(policy, scorer=None, reads="completion", **changes):
    section = tiny_llama.section(
        "preferences", **({"samples_per_prompt": 4, "margin": 0.25, "max_new_tokens": 8, "batch_size": 16} | changes)
    )
    scorer = scorer or Given()
    # What a logit or its scale would say does not matter: pairs are made by toxicity.
    reward = Reward(tiny_llama.section("reward", reads=reads, offset=7.0, scale=3.0), scorer, lambda texts: [0.0])
    return on_policy_pairs(policy, tiny_llama.prompts(len(CASES)), reward, section, SEED)


def sampled(policy):
    """Sample once more what the pairs were made of, from the whole distribution: by name, then by sample."""
    items = policy.complete(tiny_llama.prompts(len(CASES)), Decoding(8), samples=4, seed=SEED, batch_size=40)
    return {name: items[4 * place : 4 * place + 4] for place, name in enumerate(CASES)}


def test_the_pair_is_the_least_and_the_most_toxic_sample_with_the_very_ids_that_were_sampled(policy):
    items = sampled(policy)
    pairs = {pair.prompt_id: pair for pair in made(policy)[0]}
    finished = set()
    for name, (scores, samples) in CASES.items():
        prompt = items[name][0].prompt
        assert (prompt.id in pairs) == (samples is not None), name
        if samples is not None:
            pair, (chosen, rejected) = pairs[prompt.id], (items[name][place] for place in samples)
            assert (pair.prompt, pair.prompt_ids) == (prompt.text, list(prompt.token_ids)), name
            assert (pair.chosen, pair.chosen_ids) == (chosen.text, list(chosen.token_ids)), name
            assert (pair.rejected, pair.rejected_ids) == (rejected.text, list(rejected.token_ids)), name
            assert (pair.chosen_toxicity, pair.rejected_toxicity) == tuple(scores[place] for place in samples), name
            finished |= {chosen.finished, rejected.finished}
    assert finished == {True, False}, "some ids end with END and some do not"


def test_completions_are_scored_without_their_prompts(policy):
    scorer = Given()
    made(policy, scorer)
    assert scorer.texts == [item.text for items in sampled(policy).values() for item in items]


def test_the_reward_may_read_prompt_and_completion_and_no_pair_holds_more_for_it(policy):
    scorer = Given()
    pairs, _ = made(policy, scorer, reads="prompt_and_completion")
    items = [item for items in sampled(policy).values() for item in items]
    assert scorer.texts == [f"{item.prompt.text}\n{item.text}" for item in items]
    assert pairs == made(policy)[0]


def test_the_counts_tell_what_became_of_every_prompt_and_sample(policy):
    pairs, counts = made(policy)
    known = [score for score in SCORES if score is not None]
    assert len(pairs) == sum(samples is not None for _, samples in CASES.values()) == 6
    assert (counts["prompts"], counts["samples_per_prompt"], counts["pairs"]) == (len(CASES), 4, 6)
    assert counts["pair_rate"] == pytest.approx(0.6)
    assert counts["unscored"] == len(SCORES) - len(known) == 10
    texts = [item.text for items in sampled(policy).values() for item in items]
    assert counts["cut"] == sum(len(text.split()) > 5 for text in texts) and 0 < counts["cut"] < len(SCORES)
    assert counts["sampled_toxicity_mean"] == pytest.approx(sum(known) / len(known))
    assert counts["chosen_toxicity_mean"] == pytest.approx((0.1 + 0.25 + 0.1 + 0.1 + 0.2 + 0.0) / 6)
    assert counts["rejected_toxicity_mean"] == pytest.approx((0.9 + 0.5 + 0.9 + 0.9 + 0.8 + 1.0) / 6)


def test_a_completion_is_never_paired_with_itself(policy):
    pairs = {pair.prompt_id: pair for pair in made(policy, margin=0.0)[0]}
    items = sampled(policy)
    assert items["all equal"][0].prompt.id not in pairs
    assert all(pair.chosen_ids != pair.rejected_ids for pair in pairs.values())
    assert items["too near"][0].prompt.id in pairs


def test_without_any_pair_the_means_are_missing_and_not_zero(policy):
    pairs, counts = made(policy, margin=1.0 - 1e-9, samples_per_prompt=4)
    assert [pair.chosen_toxicity for pair in pairs] == [0.0]

    class Silent(Given):
        def score(self, texts):
            return [None] * len(texts)

    pairs, counts = made(policy, Silent())
    assert pairs == []
    assert (counts["pairs"], counts["pair_rate"], counts["unscored"]) == (0, 0, len(SCORES))
    means = [counts[f"{which}_toxicity_mean"] for which in ("sampled", "chosen", "rejected")]
    assert means == [None] * 3
