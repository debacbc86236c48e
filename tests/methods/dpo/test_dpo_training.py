"""What preference training does to a policy, and what it measures it against."""

import math

import pytest
import torch

from pipeline.methods.dpo.trainer import DPOTrainer
from pipeline.policy.adapters import POLICY_ADAPTER, adapters_of
from pipeline.policy.types import Decoding
from tests.methods.trainings import train
from tests.policy.tiny_llama import completions_of, pairs
from tests.policy.tiny_model import prompts, section
from tests.policy.tiny_t5 import T5

PAIRS = pairs(12)
SETTINGS = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 6, "gradient_accumulation": 1, "beta": 0.2}

pytestmark = pytest.mark.usefixtures("workplace")


def trained(policy, report=lambda *_: None, **changes):
    return train(policy, "dpo", PAIRS, section("dpo", **(SETTINGS | changes)), report=report).curves


@torch.no_grad()
def margin(policy):
    """Return how much likelier the chosen completions became than the rejected ones, in nats a pair."""
    total = 0.0
    for side, sign in (("chosen", 1), ("rejected", -1)):
        items = completions_of(PAIRS, side)
        own = policy.analyze(items).logprobs.sum(dim=1)
        with policy.acting_as("reference"):
            total += sign * (own - policy.analyze(items).logprobs.sum(dim=1)).mean().item()
    return total


@pytest.mark.parametrize("reference", ["adapter off", "reference adapter on"])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_it_starts_as_a_coin_and_comes_to_prefer_the_chosen_completions(tiny, reference, dropout):
    if reference == "reference adapter on":
        tiny.write_task_reference()
    policy = tiny.new_policy(dropout=dropout)
    assert margin(policy) == pytest.approx(0, abs=1e-4)
    policy.model.train()  # dropout would make policy and reference two
    rows = trained(policy)
    assert rows[0]["policy/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["objective/reward_margin"] == pytest.approx(0, abs=1e-5)
    assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]
    assert rows[-1]["objective/reward_margin"] > 0.2 and margin(policy) > 2


def test_the_base_would_be_another_reference_than_the_task_s(tiny, monkeypatch):
    tiny.write_task_reference()
    policy = tiny.new_policy()
    acting_as = policy.acting_as
    monkeypatch.setattr(policy, "acting_as", lambda role: acting_as("base"))
    assert abs(trained(policy)[0]["policy/loss"] - math.log(2)) > 1e-2


def test_the_reported_margin_is_beta_times_what_the_policy_gained_on_the_reference(tiny):
    policy, measured = tiny.new_policy(), [0.0]  # each after a step, so before the next row
    rows = trained(policy, lambda *_: measured.append(0.2 * margin(policy)), batch_size=5, gradient_accumulation=3)
    assert [row["objective/reward_margin"] for row in rows] == pytest.approx(measured[:-1], abs=1e-5)
    assert measured[-1] > 0.01


def test_the_policy_still_completes_and_knows_its_reference(tiny):
    base, policy = tiny.load("reference"), tiny.new_policy()
    trained(policy)
    assert adapters_of(policy.model) == {POLICY_ADAPTER}
    items = policy.complete(prompts(5), Decoding(6), samples=2, seed=0, batch_size=8)
    with torch.no_grad(), policy.acting_as("reference"):
        found = policy.analyze(items).logprobs
    with torch.no_grad():
        torch.testing.assert_close(found, base.analyze(items).logprobs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tiny", [T5], ids=["seq2seq"])  # tests/policy/test_packing.py counts what a decoder reads
def test_an_encoder_reads_a_pair_s_prompt_once_for_both_completions(tiny):
    policy, read = tiny.new_policy(), []
    policy.language_model.get_encoder().register_forward_pre_hook(
        lambda _, __, given: read.append(len(given["input_ids"])), with_kwargs=True
    )
    DPOTrainer(policy, PAIRS[:4], section("dpo", **SETTINGS), 0).step(0)
    assert read == [4, 4], "once for the reference, once for the update"
