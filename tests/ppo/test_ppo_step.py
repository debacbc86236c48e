"""One PPO step on a real (tiny) policy: what it starts from, what it learns, and how it refuses to go on."""

import ast
import inspect
import textwrap

import pytest
import torch

from pipeline.errors import UserError
from pipeline.ppo.trainer import PPOTrainer
from pipeline.scorers.keyword import Keyword
from tests.policy import tiny_llama

HARSH = Keyword("harsh", "0" * 64, tuple(tiny_llama.HARSH), 2)
PROMPTS = 8
SETTINGS = {
    "steps": 10,
    "prompts_per_step": PROMPTS,
    "samples_per_prompt": 2,
    "max_new_tokens": 8,
    "minibatch_size": 4,
    "micro_batch_size": 2,
    "epochs": 2,
    "learning_rate": 4e-4,
    "value_learning_rate": 1e-3,
    "warmup_steps": 2,
    "kl_coef": 0.03,
    "kl_target": None,
    "missing_eos_penalty": 0.0,
}
REWARD = {"scorer": "harsh", "offset": 1.0, "scale": 2.0}


def trainer_of(policy, toxicity=HARSH.score, reward=REWARD, **changes):
    section = tiny_llama.section("ppo", **(SETTINGS | changes))
    return PPOTrainer(policy, toxicity, section, tiny_llama.section("reward", **reward), seed=0, batch_size=16)


def prompts():
    return tiny_llama.prompts(PROMPTS)


def adapter_weights(policy):
    return [parameter.detach().clone() for parameter in policy.trainable()["adapter"]]


def test_the_step_reads_as_the_algorithm():
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(PPOTrainer.step))).body
    assert function.end_lineno - function.lineno + 1 <= 30


def test_the_first_minibatch_has_ratio_1_and_later_ones_have_not(policy):
    trainer = trainer_of(policy, learning_rate=1e-2)
    for _ in range(2):
        statistics = trainer.step(prompts())
        assert statistics["policy/first_ratio_deviation"] < 1e-5
        assert statistics["policy/ratio_deviation"] > 1e-3


def test_the_size_of_micro_batches_changes_nothing_but_the_memory(workplace):
    found = []
    for size in (16, 5, 1):
        policy = tiny_llama.new_policy()
        torch.manual_seed(0)
        tiny_llama.perturb(policy.model)  # B = 0 would leave A without a gradient
        statistics = trainer_of(policy, minibatch_size=16, micro_batch_size=size, epochs=1).step(prompts())
        learned = [*policy.trainable()["adapter"], *policy.trainable()["value_head"]]
        found.append((statistics, torch.cat([parameter.grad.flatten() for parameter in learned])))
    for statistics, gradient in found[1:]:
        assert statistics == pytest.approx(found[0][0], abs=1e-4)
        torch.testing.assert_close(gradient, found[0][1], atol=1e-5, rtol=1e-3)
    assert found[0][1].norm() > 0.1


def test_the_size_of_micro_batches_changes_no_statistic_of_later_updates(workplace):
    found = []
    for size in (16, 5, 1):
        policy = tiny_llama.new_policy()
        torch.manual_seed(0)
        tiny_llama.perturb(policy.model)
        changes = {"minibatch_size": 16, "micro_batch_size": size, "epochs": 3, "learning_rate": 3e-2}
        found.append(trainer_of(policy, **changes).step(prompts()))
    assert found[0]["policy/approx_kl"] > 0.01 and found[0]["policy/clip_fraction"] > 0.1
    for statistics in found[1:]:
        assert statistics == pytest.approx(found[0], rel=0.02, abs=1e-3)


def test_it_starts_without_kl_and_then_leaves_the_reference(policy):
    trainer = trainer_of(policy, learning_rate=1e-2)
    before = adapter_weights(policy)
    assert trainer.step(prompts())["objective/kl"] == 0
    assert all(not torch.equal(old, new) for old, new in zip(before, adapter_weights(policy), strict=True))
    assert trainer.step(prompts())["objective/kl"] != 0


def test_what_can_not_be_scored_leaves_the_rollout(policy):
    scored: list[float] = []

    def forgetful(texts):
        known = HARSH.score(texts)
        scored.extend(value for place, value in enumerate(known) if place % 4)
        return [value if place % 4 else None for place, value in enumerate(known)]

    statistics = trainer_of(policy, forgetful, REWARD | {"offset": 0.25, "scale": 3.0}).step(prompts())
    assert statistics["objective/unscored"] == 4
    assert statistics["objective/score"] == pytest.approx(sum(0.25 - 3 * value for value in scored) / 12)


def test_a_rollout_without_any_score_names_step_and_scorer(policy):
    trainer = trainer_of(policy)
    trainer.step(prompts())
    trainer.toxicity = lambda texts: [None] * len(texts)
    with pytest.raises(UserError, match="ppo step 2: .*'harsh'"):
        trainer.step(prompts())


def test_texts_are_scored_without_their_prompts(policy):
    seen: list[str] = []

    def listen(texts):
        seen.extend(texts)
        return HARSH.score(texts)

    trainer_of(policy, listen).step(prompts())
    assert len(seen) == 16 and all(len(text.split()) <= 8 for text in seen)
    marked = [type(item)(item.id, "MARK " + item.text, item.token_ids) for item in prompts()]
    trainer_of(policy, listen).step(marked)
    assert not any("MARK" in text for text in seen)


def test_a_rollout_is_drawn_from_the_whole_distribution(policy):
    ranks = []  # the probability of all tokens that were likelier than the one drawn
    for item in trainer_of(policy).complete(prompts()):
        ids = torch.tensor([item.prompt.token_ids + item.token_ids])
        with torch.no_grad():
            logits = policy.model(input_ids=ids).logits[0, len(item.prompt.token_ids) - 1 : -1]
        for row, token in zip(torch.softmax(logits, dim=-1), item.token_ids, strict=True):
            ranks.append(row[row > row[token]].sum().item())
    tail = sum(rank > 0.9 for rank in ranks) / len(ranks)
    assert len(ranks) > 80 and 0.02 < tail < 0.2, "truncation or cooling would leave the tail out"


def test_a_completion_that_is_cut_costs_the_penalty(policy):
    # Long enough that some completions end by themselves and some are cut.
    plain = trainer_of(policy, learning_rate=1e-12, max_new_tokens=60).step(prompts())
    dear = trainer_of(policy, learning_rate=1e-12, max_new_tokens=60, missing_eos_penalty=1.0).step(prompts())
    cut = 1 - plain["objective/finished_rate"]
    assert 0 < cut < 1
    assert plain["objective/score"] - dear["objective/score"] == pytest.approx(cut, abs=1e-5)


@pytest.mark.parametrize("broken", ["adapter", "value_head"])
def test_weights_that_are_not_numbers_name_step_and_prompts(policy, broken):
    trainer = trainer_of(policy)
    trainer.step(prompts())
    with torch.no_grad():
        policy.trainable()[broken][0].fill_(float("nan"))
    with pytest.raises(UserError) as raised:
        trainer.step(prompts())
    message = str(raised.value)
    assert "ppo step 2" in message and "learning_rate" in message
    assert any(item.id in message for item in prompts())


def test_an_absurd_learning_rate_ends_in_one_clear_line(policy):
    trainer = trainer_of(policy, learning_rate=1e30, warmup_steps=0)
    with pytest.raises(UserError, match=r"ppo step \d+: .*learning_rate"):
        for _ in range(3):
            trainer.step(prompts())


def test_an_absurd_learning_rate_is_caught_where_a_step_is_one_update(policy):
    trainer = trainer_of(policy, learning_rate=1e30, warmup_steps=0, epochs=1, minibatch_size=16)
    with pytest.raises(UserError, match=r"ppo step \d+: .*learning_rate"):
        for _ in range(3):
            trainer.step(prompts())


def test_the_price_of_kl_is_steered_towards_its_target(policy):
    trainer = trainer_of(policy, kl_target=1.0, kl_horizon=160)
    first = trainer.step(prompts())
    second = trainer.step(prompts())
    assert first["objective/kl"] == 0
    assert second["objective/kl_coef"] == pytest.approx(first["objective/kl_coef"] * (1 - 0.2 * 16 / 160))


def test_the_learning_rate_rises_over_the_warmup_and_falls_to_the_end(policy):
    trainer = trainer_of(policy, steps=6, warmup_steps=2, learning_rate=1e-4, value_learning_rate=1e-3)
    used = []
    for _ in range(6):
        used.append([group["lr"] for group in trainer.optimizer.param_groups])
        trainer.step(prompts())
    rates = [adapter for adapter, _ in used]
    assert 0 < rates[0] < rates[1] < rates[2] == pytest.approx(1e-4)
    assert rates[2] > rates[3] > rates[4] > rates[5] > 0
    assert all(value == pytest.approx(10 * adapter) for adapter, value in used)


def test_a_step_reports_the_learning_rate_that_it_used(policy):
    trainer = trainer_of(policy, steps=6, warmup_steps=2, learning_rate=1e-4)
    for _ in range(3):
        used = trainer.optimizer.param_groups[0]["lr"]
        assert trainer.step(prompts())["policy/learning_rate"] == pytest.approx(used)
