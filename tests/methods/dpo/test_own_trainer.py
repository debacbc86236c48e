"""Our own preference trainer on a tiny T5, through the room's door."""

import math

import pytest
import torch
from pipeline.methods.dpo.fit import fit

from pipeline.io import paths
from pipeline.io.errors import NotFiniteError
from pipeline.methods.dpo import causal
from pipeline.methods.dpo.trainer import PreferenceTrainer
from pipeline.policy import loading
from tests.policy import tiny_llama
from tests.policy.tiny_model import perturb, section
from tests.policy.tiny_t5 import T5

PAIRS = tiny_llama.pairs(12)
SETTINGS = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 4, "gradient_accumulation": 2, "beta": 0.2}

pytestmark = pytest.mark.usefixtures("t5_workplace")


def train(policy, pairs=PAIRS, report=lambda *_: None, seed=0, **changes):
    checkpoints = tiny_llama.checkpoints("dpo")
    settings = section("dpo", **(SETTINGS | changes))
    return fit("seq2seq", policy, policy.model, policy.tokenizer, pairs, settings, seed, checkpoints, report)


def adapter(policy):
    return [weight.detach().clone() for weight in policy.trainable()["adapter"]]


@torch.no_grad()
def margin(policy):
    """Return how much likelier the chosen completions became than the rejected ones, in nats a pair."""
    total = 0.0
    for side, sign in (("chosen", 1), ("rejected", -1)):
        items = tiny_llama.completions_of(PAIRS, side)
        own = policy.analyze(items).logprobs.sum(dim=1)
        with policy.acting_as("reference"):
            total += sign * (own - policy.analyze(items).logprobs.sum(dim=1)).mean().item()
    return total


@pytest.mark.parametrize("reference", ["adapter off", "reference adapter on"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_first_loss_is_that_of_a_coin(reference, dropout):
    if reference == "reference adapter on":
        T5.write_task_reference()
    policy = T5.new_policy(dropout=dropout)
    policy.model.train()  # dropout would make policy and reference two
    first = train(policy, batch_size=12)[0]
    assert first["policy/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["objective/reward_margin"] == pytest.approx(0, abs=1e-5)
    assert margin(policy) > 1


def test_the_base_would_be_another_reference_than_the_task_s():
    T5.write_task_reference()
    policy = T5.new_policy()
    policy.reference = policy.base
    assert abs(train(policy, batch_size=12)[0]["policy/loss"] - math.log(2)) > 1e-2


def test_it_prefers_the_chosen_completions():
    policy = T5.new_policy()
    assert margin(policy) == 0
    rows = train(policy)
    assert margin(policy) > 2
    assert rows[-1]["objective/reward_margin"] > rows[0]["objective/reward_margin"] + 0.2
    assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]


def test_the_reported_margin_is_beta_times_what_the_policy_gained_on_the_reference():
    policy, measured = T5.new_policy(), [0.0]
    rows = train(policy, report=lambda *_: measured.append(0.2 * margin(policy)), batch_size=5, gradient_accumulation=3)
    assert [row["objective/reward_margin"] for row in rows] == pytest.approx(measured[:-1], abs=1e-5)
    assert measured[-1] > 0.01


@pytest.mark.parametrize(("size", "accumulation"), [(1, 12), (4, 3), (5, 3)])
def test_accumulated_micro_batches_are_one_big_batch(size, accumulation):
    """Twelve pairs fill no whole number of batches of five: every pair counts the same nevertheless."""
    whole, parts = T5.new_policy(), T5.new_policy()
    for policy in (whole, parts):  # away from the reference, so that no reward is rounding alone
        torch.manual_seed(3)
        perturb(policy.model)
    expected = train(whole, batch_size=12, gradient_accumulation=1)
    rows = train(parts, batch_size=size, gradient_accumulation=accumulation)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4)
    for one, other in zip(adapter(parts), adapter(whole), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)


def test_curves_are_those_of_the_other_trainer_one_row_an_update_each_reported():
    reported = []
    rows = train(T5.new_policy(), report=lambda step, row: reported.append({"step": step, **row}), epochs=3)
    assert rows == reported
    assert [row["step"] for row in rows] == list(range(1, 7))
    assert all(set(row) == {"step", *causal._CURVES.values()} for row in rows)


def test_the_learning_rate_rises_from_0_and_falls_by_updates():
    rates = [row["policy/learning_rate"] for row in train(T5.new_policy(), epochs=4, warmup_ratio=0.3)]
    assert rates == pytest.approx([0.0, 1e-2 / 3, 2e-2 / 3, 1e-2, 0.8e-2, 0.6e-2, 0.4e-2, 0.2e-2])


def test_every_epoch_has_every_pair_once_in_an_order_of_the_seed():
    settings = section("dpo", **(SETTINGS | {"batch_size": 5, "gradient_accumulation": 1}))
    drawn = [list(PreferenceTrainer(T5.new_policy(), PAIRS, settings, seed).batches()) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(indices) for indices in drawn[0]] == [5, 5, 2] * 4
    epochs = [sum(drawn[0][start : start + 3], []) for start in range(0, 12, 3)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs) and epochs[0] != epochs[1]


def test_only_the_policy_adapter_learns_and_all_of_it():
    T5.write_task_reference()
    reference = paths.adapter("exp", 0, "reference") / "adapter_model.safetensors"
    written = reference.read_bytes()
    policy = T5.new_policy()
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    head = [weight.detach().clone() for weight in policy.trainable()["value_head"]]
    train(policy)
    changed = {name for name, value in policy.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name and ".default." in name}
    assert all(torch.equal(*pair) for pair in zip(policy.trainable()["value_head"], head, strict=True))
    folder = loading.save_adapter(policy.model, "exp", 0, "dpo")
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert reference.read_bytes() == written


def test_two_trainings_have_the_same_bits_and_another_seed_has_not():
    policies = [T5.new_policy() for _ in range(3)]
    rows = [train(policy, seed=seed) for policy, seed in zip(policies, (0, 0, 1), strict=True)]
    assert rows[0] == rows[1] != rows[2]
    assert all(torch.equal(*pair) for pair in zip(adapter(policies[0]), adapter(policies[1]), strict=True))


def test_a_pair_s_prompt_is_encoded_once_for_both_completions():
    policy, encoded = T5.new_policy(), []
    policy.language_model.get_encoder().register_forward_pre_hook(
        lambda _, __, given: encoded.append(len(given["input_ids"])), with_kwargs=True
    )
    train(policy, PAIRS[:4], epochs=1, gradient_accumulation=1)
    assert encoded == [4, 4], "once for the reference, once for the update"


def poisoned_gradient(policy):
    """Return what makes every gradient of one LoRA matrix NaN from now on."""
    weight = policy.trainable()["adapter"][3]
    return lambda: weight.register_hook(lambda found: found * math.nan)


def poisoned_weight(policy):
    """Return what makes one weight of the adapter NaN."""

    def poison():
        with torch.no_grad():
            policy.trainable()["adapter"][0][0, 0] = math.nan

    return poison


@pytest.mark.parametrize("poison", [poisoned_gradient, poisoned_weight])
def test_what_is_no_number_ends_the_training_and_names_update_and_prompts(poison):
    policy = T5.new_policy()
    break_it, heard = poison(policy), []

    def report(step, row):
        heard.append(step)
        if step == 3:
            break_it()

    with pytest.raises(NotFiniteError, match="dpo update 4: a loss or gradient is not finite") as raised:
        train(policy, report=report)
    assert heard == [1, 2, 3]
    assert set(raised.value.prompt_ids) <= {pair.prompt_id for pair in PAIRS} and len(raised.value.prompt_ids) == 4
    assert all(name in str(raised.value) for name in raised.value.prompt_ids)
    assert "methods.dpo.learning_rate" in str(raised.value)


def test_a_reference_that_is_no_number_ends_the_training_before_it_begins():
    policy = T5.new_policy()
    with torch.no_grad():
        policy.language_model.shared.weight[5:, 1] = math.inf
    before = adapter(policy)
    with pytest.raises(NotFiniteError, match="dpo update 1"):
        train(policy)
    assert all(torch.equal(*pair) for pair in zip(adapter(policy), before, strict=True))


def test_weights_that_an_update_breaks_are_found_before_the_next():
    """The last update has no next one that would find it out, and a checkpoint must not hold them."""
    policy = T5.new_policy()
    trainer = PreferenceTrainer(policy, PAIRS, section("dpo", **SETTINGS), 0)
    trainer.update([0, 1])
    trainer.state.optimizer.register_step_post_hook(lambda *_: poisoned_weight(policy)())
    with pytest.raises(NotFiniteError, match="a weight is not finite"):
        trainer.update([2, 3])
