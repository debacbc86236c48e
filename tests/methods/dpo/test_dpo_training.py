"""A whole preference training on the tiny model."""

import pytest
import torch
from pipeline.methods.dpo.fit import fit

from pipeline.io import paths
from pipeline.policy import loading
from pipeline.policy.adapters import POLICY_ADAPTER, adapters_of
from pipeline.policy.types import Decoding
from tests.policy import tiny_llama


def trained(**changes):
    """Train a fresh policy and return it with its curves and what was reported."""
    settings = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 6, "gradient_accumulation": 1}
    policy, reported = tiny_llama.new_policy(), []
    rows = fit(
        "causal",
        policy,
        policy.model,
        policy.tokenizer,
        tiny_llama.pairs(12),
        tiny_llama.section("dpo", **(settings | changes)),
        0,
        tiny_llama.checkpoints("dpo"),
        lambda step, row: reported.append({"step": step, **row}),
    )
    policy.model.eval()
    return policy, rows, reported


@torch.no_grad()
def margin(policy):
    """Return how much likelier the chosen completions became than the rejected ones, in nats a pair."""
    total = 0.0
    for side, sign in (("chosen", 1), ("rejected", -1)):
        items = tiny_llama.completions_of(tiny_llama.pairs(12), side)
        own = policy.analyze(items).logprobs.sum(dim=1)
        with policy.acting_as("reference"):
            total += sign * (own - policy.analyze(items).logprobs.sum(dim=1)).mean().item()
    return total


def test_it_prefers_the_chosen_completions(workplace):
    assert margin(tiny_llama.new_policy()) == 0
    policy, rows, _ = trained()
    assert margin(policy) > 2
    assert rows[-1]["objective/reward_margin"] > rows[0]["objective/reward_margin"] + 0.2
    assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]


def test_the_reported_margin_is_beta_times_what_the_policy_gained_on_the_reference(workplace):
    policy, measured = tiny_llama.new_policy(), [0.0]
    section = tiny_llama.section("dpo", learning_rate=1e-3, epochs=4, batch_size=12, gradient_accumulation=1, beta=0.3)
    rows = fit(
        "causal",
        policy,
        policy.model,
        policy.tokenizer,
        tiny_llama.pairs(12),
        section,
        0,
        tiny_llama.checkpoints("dpo"),
        lambda step, row: measured.append(0.3 * margin(policy)),  # after the step, so before the next row
    )
    assert [row["objective/reward_margin"] for row in rows] == pytest.approx(measured[:-1], abs=1e-3)
    assert measured[-1] > 0.01


def test_only_the_policy_adapter_learns_and_learns_whole(workplace):
    fresh = tiny_llama.new_policy()
    before = fresh.model.state_dict()
    policy, _, _ = trained()
    after = policy.model.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        name for name in before if "lora_" in name
    }
    assert adapters_of(policy.model) == {POLICY_ADAPTER}, "TRL leaves no adapter of its own"


def test_the_policy_still_completes_and_knows_its_reference(workplace):
    base = tiny_llama.load("reference")
    policy, _, _ = trained()
    items = policy.complete(tiny_llama.prompts(5), Decoding(6), samples=2, seed=0, batch_size=8)
    with torch.no_grad(), policy.acting_as("reference"):
        found = policy.analyze(items).logprobs
    with torch.no_grad():
        torch.testing.assert_close(found, base.analyze(items).logprobs, atol=1e-5, rtol=1e-5)


def test_a_task_reference_is_what_it_starts_from_and_is_measured_against(workplace):
    tiny_llama.write_task_reference()
    file = paths.adapter("exp", 0, "reference") / "adapter_model.safetensors"
    before = file.read_bytes()
    policy, rows, _ = trained()
    assert rows[0]["policy/loss"] == pytest.approx(0.6931, abs=1e-3)
    assert margin(policy) > 2
    folder = loading.save_adapter(policy.model, "exp", 0, "dpo")
    assert sorted(path.name for path in folder.rglob("*")) == ["adapter_config.json", "adapter_model.safetensors"]
    assert file.read_bytes() == before


def test_curves_have_one_row_an_update_each_reported_and_no_time(workplace):
    _, rows, reported = trained(gradient_accumulation=2)
    assert rows == reported
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    rewards = {"chosen_reward", "rejected_reward", "reward_margin", "reward_accuracy", "entropy"}
    named = {"policy/loss", "policy/grad_norm", "policy/learning_rate"} | {f"objective/{name}" for name in rewards}
    assert all(set(row) == {"step"} | named for row in rows)


def test_two_trainings_give_the_same_bytes_and_leave_nothing_else(workplace):
    found = []
    for _ in range(2):
        policy, rows, _ = trained(epochs=2)
        folder = loading.save_adapter(policy.model, "exp", 0, "dpo")
        found.append(({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}, rows))
    assert found[0] == found[1]
    assert set(found[0][0]) == {"adapter_config.json", "adapter_model.safetensors"}
    assert not [path for path in workplace.joinpath("checkpoints").rglob("*") if path.is_file()]
    assert {path.name for path in workplace.iterdir()} <= {"adapters", "models", "checkpoints"}
