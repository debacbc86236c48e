"""Truths about what guards a policy against being harmless by being useless."""

import math

import numpy as np
import pytest

from pipeline.config.sections import Guard
from pipeline.evaluation import guards, statistics
from pipeline.evaluation.measure import Frame, Outputs
from pipeline.evaluation.rows import Completion


def completion(token_ids, prompt=0, sample=0, text="words", finished=False, logprobs=None):
    """Make one completion; `logprobs` are (policy, reference, base)."""
    named = logprobs and dict(zip(("policy", "reference", "base"), logprobs, strict=True))
    return Completion.model_validate(
        {
            "prompt_id": f"p{prompt}",
            "sample": sample,
            "prompt": "A prompt",
            "categories": [],
            "completion": text,
            "token_ids": token_ids,
            "finished": finished,
            "logprobs": named,
        }
    )


def measured(*by_seed, prompts=1, demonstrations=None, surprises=None):
    return guards.measure(
        Outputs("sft", by_seed, prompts, ["tall", "old-school"], demonstrations or {}, surprises=surprises)
    )


def values(*rows, prompts=1):
    return guards.values(measured(rows, prompts=prompts))


def test_a_completion_mentions_a_group_by_a_whole_word_in_any_case():
    texts = ("The TALL one.", "tallest", "Installed", "an old-school friend", "nobody")
    rows = [completion([1], text=text, sample=index) for index, text in enumerate(texts)]
    assert values(*rows)["identity_mention_rate"] == pytest.approx(2 / 5)


def test_rouge_l_is_measured_where_there_is_a_demonstration_and_absent_without():
    rows = [completion([1], prompt=0, text="the cat sat"), completion([1], prompt=1, text="the dog ran")]
    assert "rouge_l" not in values(*rows, prompts=2)
    shown = measured(rows, prompts=2, demonstrations={"p0": ["a dog", "the cat sat"], "p1": []})
    for name in ("rouge_1", "rouge_2", "rouge_l"):
        assert guards.values(shown)[name] == 1, "the prompt without a demonstration takes no part"


def test_perplexity_is_that_of_the_fluency_model_where_one_was_asked():
    rows = [completion([1, 2], sample=index, logprobs=(-1, -1, -8)) for index in range(3)]
    surprises = np.log([[[3.0, 5.0, np.nan]]])  # the last completion is empty
    assert guards.values(measured(rows, surprises=surprises))["perplexity_median"] == pytest.approx(4)
    nothing = guards.values(measured(rows, surprises=np.full((1, 1, 3), np.nan)))
    assert math.isnan(nothing["perplexity_median"]), "it does not fall back on the base model"


def test_all_different_tokens_are_fully_distinct_and_one_token_over_and_over_is_not():
    varied = values(completion(list(range(10))))
    assert [varied[f"distinct_{n}"] for n in (1, 2, 3)] == [1, 1, 1]
    assert varied["repetition"] == 0
    stuck = values(completion([7] * 10))
    assert [stuck[f"distinct_{n}"] for n in (1, 2, 3)] == pytest.approx([1 / 10, 1 / 9, 1 / 8])
    assert stuck["repetition"] == pytest.approx(7 / 8)


def test_repetition_is_within_a_completion_and_distinct_is_over_all_of_them():
    found = values(completion([1, 2, 3, 4]), completion([1, 2, 3, 4], sample=1))
    assert found["repetition"] == 0
    assert found["distinct_2"] == 0.5


def test_a_text_too_short_for_an_ngram_takes_no_part():
    assert values(completion([1, 2]), completion([5, 5, 5, 5, 5], sample=1))["repetition"] == pytest.approx(2 / 3)
    assert math.isnan(values(completion([1]))["distinct_2"])


def test_the_end_token_is_no_text():
    ended, cut = completion([4, 5, 6, 0], finished=True), completion([4, 5, 6])
    for name in ("length_mean", "distinct_1", "distinct_2"):
        assert values(ended)[name] == values(cut)[name]
    assert (values(ended)["finished_rate"], values(cut)["finished_rate"]) == (1, 0)


def test_white_space_alone_is_empty():
    rows = [completion([1], text=text, sample=index) for index, text in enumerate((" \n", "", "fine", " x "))]
    assert values(*rows)["empty_rate"] == 0.5


def test_perplexity_of_even_odds_is_the_number_of_choices():
    # 4 tokens, each with probability 1/50 under the base
    row = completion([1, 2, 3, 4], logprobs=(-1.0, -1.0, 4 * math.log(1 / 50)))
    assert values(row)["perplexity_median"] == pytest.approx(50)


def test_a_lone_end_token_and_a_sample_not_analyzed_have_no_perplexity():
    rows = [
        completion([1, 2], logprobs=(0, 0, 2 * math.log(1 / 9))),
        completion([0], sample=1, finished=True, text="", logprobs=(-5, -5, -5)),
        completion([1, 2], sample=2),
    ]
    assert values(*rows)["perplexity_median"] == pytest.approx(9)


def test_kl_is_in_nats_a_completion_and_zero_for_the_reference():
    rows = [
        completion([1, 2], logprobs=(-3.0, -5.0, -9.0)),
        completion([1, 2, 3], sample=1, logprobs=(-2.0, -3.0, -9.0)),
    ]
    assert values(*rows)["kl"] == pytest.approx(1.5)
    assert values(*rows)["kl_per_token"] == pytest.approx(3 / 5)
    reference = [completion([1, 2], logprobs=(-3.3, -3.3, -9.0)), completion([1], sample=1)]
    assert (values(*reference)["kl"], values(*reference)["kl_per_token"]) == (0, 0)


def test_nothing_analyzed_is_missing_not_zero():
    found = values(completion([1, 2, 3]))
    assert all(math.isnan(found[name]) for name in ("perplexity_median", "kl", "kl_per_token"))


def random_measures(seed, prompts=12, samples=3, vocabulary=15):
    generator = np.random.default_rng(seed)
    rows = [
        completion(
            generator.integers(0, vocabulary, size=6).tolist(),
            prompt,
            sample,
            logprobs=(-1, -1, -generator.uniform(9, 30)),
        )
        for prompt in range(prompts)
        for sample in range(samples)
    ]
    return rows, measured(rows, prompts=prompts)


def test_leaving_a_prompt_out_gives_the_distinct_of_the_others():
    rows, measures = random_measures(0)
    left_out = measures["distinct"]["distinct_2"].without_each_prompt()
    for prompt in range(12):
        others = [row for row in rows if row.prompt_id != f"p{prompt}"]
        assert left_out[prompt] == pytest.approx(guards.values(measured(others, prompts=11))["distinct_2"])


def test_adding_a_seed_does_not_lower_distinct():
    rows, measures = random_measures(0)
    twice = measured(rows, rows, prompts=12)
    assert guards.values(twice) == pytest.approx(guards.values(measures))
    assert guards.values(guards.of_seed(twice, 1)) == guards.values(measures)


def changed(policy, reference, kind):
    limits = {name: Guard(change=kind, min=None, max=None) for name in guards.values(policy)}
    frame = Frame(statistics.draw(12, 1, 500, 0), 0.95, threshold=0.5, resamples=500, seed=0, cards={}, sizes=[1])
    return guards.changes(policy, reference, limits, frame)


def test_a_policy_that_is_the_reference_has_not_changed_at_all():
    _, measures = random_measures(0)
    absolute, relative = (changed(measures, measures, kind) for kind in ("absolute", "relative"))
    assert math.isnan(absolute.pop("kl_per_token").value), "no guard watches it"
    for name, change in absolute.items():
        assert (change.value, change.low, change.high) == (0, 0, 0), name
        if guards.values(measures)[name]:
            assert relative[name].value == 0
        else:
            assert math.isnan(relative[name].value), "of nothing there is no share"


def test_every_guarded_mean_and_ratio_lies_within_its_interval():
    (_, poor), (_, rich) = random_measures(0, vocabulary=6), random_measures(1, vocabulary=40)
    for kind in ("relative", "absolute"):
        found = changed(poor, rich, kind)
        for name in ("perplexity_median", "distinct_2"):
            assert found[name].low < found[name].value < found[name].high
    assert changed(poor, rich, "relative")["distinct_2"].high < 0


def test_a_relative_change_of_a_mean_is_the_ratio_of_means_less_one():
    rows, measures = random_measures(0)
    doubled = measured([row.model_copy(update={"token_ids": row.token_ids * 2}) for row in rows], prompts=12)
    assert changed(doubled, measures, "relative")["length_mean"].value == pytest.approx(1)
    assert changed(doubled, measures, "absolute")["length_mean"].value == pytest.approx(6)


LIMITS = {
    "perplexity_median": Guard(change="relative", min=None, max=0.1),
    "length_mean": Guard(change="relative", min=-0.2, max=0.2),
}


@pytest.mark.parametrize(
    ("perplexity", "length", "names"),
    [
        (0.1, -0.2, ""),
        (-0.9, 0.2, ""),
        (0.11, 0.0, "perplexity_median"),
        (0.0, 0.21, "length_mean"),
        (0.0, -0.21, "length_mean"),
        (0.2, -0.3, "perplexity_median, length_mean"),
        (float("nan"), None, "perplexity_median, length_mean"),
    ],
)
def test_a_guard_fails_beyond_its_bounds_or_unmeasured(perplexity, length, names):
    values = {"perplexity_median": perplexity, "length_mean": length}
    changes = {name: statistics.Interval(value, value, value) for name, value in values.items() if value is not None}
    checked = guards.checks(LIMITS, changes)
    assert guards.failed(checked) == names
    assert [name for name, check in checked.items() if not check["passed"]] == [
        name for name in names.split(", ") if name
    ]
