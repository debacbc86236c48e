"""Best and worst of k samples from a real policy, and pairs of a data set, by scorers whose every score is known."""

import pytest

from pipeline.config.sections import DatasetPreferences
from pipeline.data.schema import prompt_row
from pipeline.io.errors import UserError
from pipeline.policy.prompts import tokenize_prompts
from pipeline.policy.types import Decoding
from pipeline.preferences.of_data_set import LEFT_OUT, Answers, check_dataset_pairs, dataset_pairs
from pipeline.preferences.on_policy import check_pairs, sample_on_policy
from pipeline.preferences.pairs import pairs_of, read_samples, samples_of, write_samples
from pipeline.scorers.reward import Reward
from tests.policy import tiny_llama
from tests.policy.chatting import PREFERENCES

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
    return sample_on_policy(policy, tiny_llama.prompts(len(CASES)), reward, section, SEED)


def sampled(policy):
    """Sample once more what the pairs were made of, from the whole distribution: by name, then by sample."""
    items = policy.complete(tiny_llama.prompts(len(CASES)), Decoding(8), samples=4, seed=SEED, batch_size=40)
    return {name: items[4 * place : 4 * place + 4] for place, name in enumerate(CASES)}


def test_the_pair_is_the_least_and_the_most_toxic_sample_with_the_very_ids_that_were_sampled(policy):
    items = sampled(policy)
    pairs = {pair.prompt_id: pair for pair in pairs_of(made(policy)[0])}
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


def test_every_sample_is_kept_with_its_score_a_prompt_a_row(policy):
    items, (rows, _) = sampled(policy), made(policy)
    assert len(rows) == len(CASES)
    for row, (name, (scores, places)) in zip(rows, CASES.items(), strict=True):
        prompt = items[name][0].prompt
        assert (row.prompt_id, row.prompt, row.prompt_ids) == (prompt.id, prompt.text, list(prompt.token_ids)), name
        found = [(sample.text, sample.token_ids, sample.toxicity) for sample in row.samples]
        expected = [(item.text, list(item.token_ids)) for item in items[name]]
        assert found == [(*item, score) for item, score in zip(expected, scores, strict=True)], name
        assert row.pairs == ([] if places is None else [places]), name


def test_completions_are_scored_without_their_prompts(policy):
    scorer = Given()
    made(policy, scorer)
    assert scorer.texts == [item.text for items in sampled(policy).values() for item in items]


def test_the_reward_may_read_prompt_and_completion_and_no_pair_holds_more_for_it(policy):
    scorer = Given()
    rows, _ = made(policy, scorer, reads="prompt_and_completion")
    items = [item for items in sampled(policy).values() for item in items]
    assert scorer.texts == [f"{item.prompt.text}\n{item.text}" for item in items]
    assert rows == made(policy)[0]


def test_the_counts_tell_what_became_of_every_prompt_and_sample(policy):
    rows, counts = made(policy)
    known = [score for score in SCORES if score is not None]
    assert len(pairs_of(rows)) == sum(samples is not None for _, samples in CASES.values()) == 6
    assert (counts["prompts"], counts["samples_per_prompt"], counts["pairs"]) == (len(CASES), 4, 6)
    assert counts["pair_rate"] == pytest.approx(0.6)
    assert counts["unscored"] == len(SCORES) - len(known) == 10
    texts = [item.text for items in sampled(policy).values() for item in items]
    assert counts["cut"] == sum(len(text.split()) > 5 for text in texts) and 0 < counts["cut"] < len(SCORES)
    assert counts["sampled_toxicity_mean"] == pytest.approx(sum(known) / len(known))
    assert counts["chosen_toxicity_mean"] == pytest.approx((0.1 + 0.25 + 0.1 + 0.1 + 0.2 + 0.0) / 6)
    assert counts["rejected_toxicity_mean"] == pytest.approx((0.9 + 0.5 + 0.9 + 0.9 + 0.8 + 1.0) / 6)


def test_a_completion_is_never_paired_with_itself(policy):
    pairs = {pair.prompt_id: pair for pair in pairs_of(made(policy, margin=0.0)[0])}
    items = sampled(policy)
    assert items["all equal"][0].prompt.id not in pairs
    assert all(pair.chosen_ids != pair.rejected_ids for pair in pairs.values())
    assert items["too near"][0].prompt.id in pairs


def test_without_any_pair_the_means_are_missing_and_not_zero(policy):
    rows, counts = made(policy, margin=1.0 - 1e-9, samples_per_prompt=4)
    assert [pair.chosen_toxicity for pair in pairs_of(rows)] == [0.0]

    class Silent(Given):
        def score(self, texts):
            return [None] * len(texts)

    rows, counts = made(policy, Silent())
    assert pairs_of(rows) == []
    assert (counts["pairs"], counts["pair_rate"], counts["unscored"]) == (0, 0, len(SCORES))
    means = [counts[f"{which}_toxicity_mean"] for which in ("sampled", "chosen", "rejected")]
    assert means == [None] * 3
    with pytest.raises(UserError, match=rf"reward\.scorer: given could score none of {len(SCORES)} completions"):
        check_pairs(counts, "given", tiny_llama.section("preferences"))


def test_prompts_that_give_no_pair_are_one_message_with_a_remedy():
    counts = {"pairs": 0, "sampled_toxicity_mean": 0.5}
    with pytest.raises(UserError, match=r"preferences\.margin: no prompt's 4 samples differ by 0\.25 .* lower it"):
        check_pairs(counts, "given", tiny_llama.section("preferences", samples_per_prompt=4, margin=0.25))


class Rude(Given):
    """A scorer that knows one word, and does not read a question."""

    def score(self, texts):
        return [None if "waits" in text else float("darn" in text) for text in texts]


LONGEST = 6
DATA = {  # prompt -> chosen, rejected, and what becomes of the row
    "the old man": ("walks home", "runs darn often", "pair"),
    "the young dog": ("a dog sits under the darn tree", "sits", "too_long"),
    "the cat": ("sits", "sits  ", "identical"),
    "the horse": ("sits", None, "without_pair"),
    "the bird": (None, None, "without_pair"),
    "the farmer": (" ", "sings", "empty"),
    "the sailor": ("sings <end> the end", "sings", "special_token"),
    "the teacher": ("darn", "waits", "pair"),
    "the child": ("a dog sits under trees", "runs", "pair"),
}


def of_data(polarity="as_labelled", context=None, longest=LONGEST):
    tokenizer, model = tiny_llama.tokenizer(), tiny_llama.section("model")
    rows = [prompt_row(prompt, chosen=chosen, rejected=rejected) for prompt, (chosen, rejected, _) in DATA.items()]
    prompts = tokenize_prompts(rows, tokenizer, model, "train.jsonl")
    settings = DatasetPreferences.model_validate(PREFERENCES | {"polarity": polarity})
    reward = Reward(tiny_llama.section("reward"), Rude(), lambda texts: [0.0])
    return dataset_pairs(rows, prompts, Answers(tokenizer, model, longest, context), reward, settings)


def test_a_data_set_s_pairs_are_its_answers_each_with_one_end_and_never_cut():
    pairs = {pair.prompt: pair for pair in of_data()[0]}
    assert list(pairs) == [prompt for prompt, (*_, kind) in DATA.items() if kind == "pair"]
    for pair in pairs.values():
        assert (pair.chosen, pair.rejected) == DATA[pair.prompt][:2]
        assert [tiny_llama.VOCABULARY[token] for token in pair.prompt_ids] == pair.prompt.split()
        for ids in (pair.chosen_ids, pair.rejected_ids):
            assert ids.index(tiny_llama.END) == len(ids) - 1 and len(ids) <= LONGEST
    walks = pairs["the old man"]
    assert [tiny_llama.VOCABULARY[token] for token in walks.chosen_ids] == ["walks", "home", "<end>"]


def test_people_may_choose_the_more_toxic_answer_and_a_missing_score_stays_missing(tmp_path):
    pairs, counts = of_data()
    by_prompt = {pair.prompt: (pair.chosen_toxicity, pair.rejected_toxicity) for pair in pairs}
    assert by_prompt == {"the old man": (0.0, 1.0), "the teacher": (1.0, None), "the child": (0.0, 0.0)}
    assert counts["unscored"] == 1
    assert counts["chosen_toxicity_mean"] == pytest.approx(1 / 3) and counts["rejected_toxicity_mean"] == 0.5
    write_samples(tmp_path / "0.jsonl", [samples_of(pair) for pair in pairs])
    assert sorted(pairs_of(read_samples(tmp_path / "0.jsonl")), key=lambda pair: pair.prompt) == sorted(
        pairs, key=lambda pair: pair.prompt
    )


def test_every_row_is_a_pair_or_counted_by_its_reason():
    counts = of_data()[1]
    kinds = [kind for *_, kind in DATA.values()]
    assert counts["pairs"] == kinds.count("pair") == 3 and counts["rows"] == len(DATA)
    assert {reason: counts[reason] for reason in LEFT_OUT} == {reason: kinds.count(reason) for reason in LEFT_OUT}


def test_swapped_exchanges_the_sides_and_nothing_else():
    (one, counts), (two, swapped) = of_data(), of_data("swapped")
    for pair, other in zip(one, two, strict=True):
        for key in ("", "_ids", "_toxicity"):
            assert getattr(pair, f"chosen{key}") == getattr(other, f"rejected{key}")
            assert getattr(pair, f"rejected{key}") == getattr(other, f"chosen{key}")
        assert pair.prompt_ids == other.prompt_ids
    assert {reason: counts[reason] for reason in LEFT_OUT} == {reason: swapped[reason] for reason in LEFT_OUT}


def test_a_pair_that_does_not_fit_into_the_context_is_left_out():
    assert {pair.prompt for pair in of_data(context=6)[0]} == {"the teacher"}
    assert len(of_data(context=8)[0]) == 3


def test_a_data_set_that_gives_no_pair_is_one_message_with_the_counts():
    counts = of_data(longest=1)[1]
    with pytest.raises(UserError, match=r"train\.jsonl: no pair .* 4 too_long; .* preferences\.max_completion_tokens"):
        check_dataset_pairs(counts, "given", "train.jsonl")
