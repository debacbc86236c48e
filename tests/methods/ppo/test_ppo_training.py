"""A whole PPO training on the tiny model: it learns, it repeats itself, and its curves hold no time."""

import pytest
import torch

from pipeline.io.errors import UserError
from pipeline.policy.types import Decoding
from pipeline.scorers.keyword import KeywordScorer, load
from tests.methods.ppo.tiny_ppo import prompts, reward_of, trainer_of
from tests.methods.trainings import train
from tests.policy import tiny_llama

# A third of the words, so that every completion has some: toxicity is the share of them among 8 tokens.
COMMON = load(
    "common", KeywordScorer(kind="keyword", keywords=[f"{word} " for word in tiny_llama.WORDS[::3]], saturation=8)
)


def score(texts):
    return COMMON.score([f"{text} " for text in texts])


def trained(policy, toxicity_of=score, **changes):
    settings = {
        "steps": 12,
        "prompts_per_step": 24,
        "samples_per_prompt": 1,
        "minibatch_size": 12,
        "micro_batch_size": 12,
        "epochs": 2,
        "max_new_tokens": 8,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "kl_coef": 0.0,
        "kl_target": None,
        "missing_eos_penalty": 0.0,
    }
    section, reported = tiny_llama.section("ppo", **(settings | changes)), []
    told = train(
        policy, "ppo", prompts(40), section, reward=reward_of(toxicity_of), report=lambda *it: reported.append(it)
    )
    return told.curves, reported


def toxicity(policy):
    items = policy.complete(tiny_llama.prompts(30, seed=9), Decoding(8), samples=8, seed=7, batch_size=240)
    return sum(score([item.text for item in items])) / len(items)


def test_it_lowers_toxicity_on_prompts_it_was_not_trained_on(policy):
    before = toxicity(policy)
    rows, _ = trained(policy)
    assert toxicity(policy) < 0.6 * before
    assert rows[-1]["objective/score"] > rows[0]["objective/score"] + 0.2


def test_a_dearer_kl_keeps_it_nearer_to_the_reference(workplace):
    free, _ = trained(tiny_llama.new_policy(), steps=8)
    dear, _ = trained(tiny_llama.new_policy(), steps=8, kl_coef=1.0)
    assert dear[-1]["objective/kl"] < 0.5 * free[-1]["objective/kl"]


def test_the_value_head_starts_at_the_score_of_all_and_follows_where_it_goes(policy):
    def changed(texts):
        scored.append(texts)
        return [0.25 if len(scored) == 1 else 0.5] * len(texts)

    scored, changes = [], {"steps": 20, "learning_rate": 1e-12, "value_learning_rate": 0.02, "vf_coef": 1.0}
    rows, _ = trained(policy, changed, **changes)
    assert [row["objective/score"] for row in rows[:2]] == pytest.approx([0.5, 0.0])
    assert rows[0]["value/loss"] < 1e-6 and rows[1]["value/loss"] > 0.01 > 10 * rows[-1]["value/loss"]
    found = policy.analyze(tiny_llama.completions(20, seed=5))
    assert found.values[found.mask].mean().item() == pytest.approx(0.0, abs=0.1)


def test_two_trainings_are_equal_to_the_bit(workplace):
    weights, curves = [], []
    for _ in range(2):
        policy = tiny_llama.new_policy()
        curves.append(trained(policy, steps=3)[0])
        weights.append(policy.trainable()["adapter"])
    assert curves[0] == curves[1]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_every_step_is_a_row_and_a_report_and_only_the_report_tells_the_time(policy):
    rows, reported = trained(policy, steps=3)
    assert [row["step"] for row in rows] == [step for step, _ in reported] == [1, 2, 3]
    assert not [key for row in rows for key in row if key.startswith("time/")]
    for row, (step, statistics) in zip(rows, reported, strict=True):
        assert statistics["time/tokens_per_second"] > 0
        timed = {key for key in statistics if key.startswith("time/")}
        assert {"time/complete", "time/analyze", "time/reference", "time/score", "time/optimise"} < timed
        assert {"step": step, **{key: statistics[key] for key in statistics if key not in timed}} == row
        assert {key.split("/")[0] for key in row} == {"step", "objective", "policy", "value", "health"}


def test_only_the_adapter_and_the_value_head_are_changed(policy):
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    trained(policy, steps=2)
    after = policy.model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed and all("lora_" in name for name in changed)
    assert policy.value_head.linear.weight.any()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_prompt_comes_twice_in_a_round(policy, seed):
    def rounds(seed, numbers):
        trainer = trainer_of(policy, given=prompts(10), seed=seed, prompts_per_step=4)
        return [[prompt.id for place in range(2) for prompt in trainer.batch(2 * number + place)] for number in numbers]

    found = rounds(seed, range(3))
    assert all(len(set(ids)) == 8 for ids in found), "8 of 10 prompts fill two batches of 4"
    assert found[0] != found[1]
    assert rounds(seed, [2, 0]) == [found[2], found[0]], "whatever was asked for before"
    assert rounds(seed + 1, [0]) != [found[0]]


def test_a_step_that_needs_more_prompts_than_there_are_is_refused(policy):
    with pytest.raises(
        UserError, match=r"^methods\.ppo\.prompts_per_step: expected at most the 3 train prompts, got 4; lower it$"
    ):
        trainer_of(policy, given=prompts(3), prompts_per_step=4)
