"""What supervised training does to a policy, and from which tokens."""

from dataclasses import replace

import pytest
import torch

from pipeline.policy.types import Decoding
from tests.methods.trainings import train
from tests.policy.tiny_llama import completions_of, pairs
from tests.policy.tiny_model import END, prompts, section
from tests.policy.tiny_t5 import T5

PAIRS = pairs(12)
CHOSEN = completions_of(PAIRS, "chosen")

pytestmark = pytest.mark.usefixtures("workplace")


def trained(policy, given=PAIRS, **changes):
    settings = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 6, "gradient_accumulation": 1}
    return train(policy, "sft", given, section("sft", **(settings | changes))).curves


@torch.no_grad()
def likelihood(policy):
    return policy.analyze(CHOSEN).logprobs.sum().item()


def test_it_makes_the_chosen_completions_likelier(tiny):
    policy = tiny.new_policy()
    before = likelihood(policy)
    rows = trained(policy)
    assert likelihood(policy) > before + 10
    assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]


def test_it_learns_nothing_from_the_rejected_completions(tiny):
    swapped = [replace(pair, rejected_ids=[5, 6, 7]) for pair in PAIRS]
    policies = [tiny.new_policy() for _ in range(2)]
    for policy, given in zip(policies, (PAIRS, swapped), strict=True):
        trained(policy, given, epochs=1)
    weights = [policy.trainable()["adapter"] for policy in policies]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


@pytest.mark.parametrize("split", [(12, 1), (5, 3)])
def test_loss_and_entropy_are_means_over_the_chosen_tokens_of_an_update(tiny, split):
    tiny.write_base(**({"dropout_rate": 0.0} if tiny is T5 else {}))
    policy = tiny.new_policy()
    with torch.no_grad():
        found = policy.analyze(CHOSEN)
    first, *_ = trained(policy, batch_size=split[0], gradient_accumulation=split[1], epochs=1)
    assert first["policy/loss"] == pytest.approx(-found.logprobs[found.mask].mean().item(), abs=1e-5)
    assert first["objective/entropy"] == pytest.approx(found.entropy[found.mask].mean().item(), abs=1e-5)


def test_an_end_in_the_target_is_learnt_and_none_is_where_there_is_none(tiny):
    plain = [replace(pair, chosen_ids=[token for token in pair.chosen_ids if token != END]) for pair in PAIRS]
    finished = []
    for given in (plain, [replace(pair, chosen_ids=[*pair.chosen_ids, END]) for pair in plain]):
        policy = tiny.new_policy()
        trained(policy, given, epochs=20)
        items = policy.complete(prompts(12), Decoding(14), samples=2, seed=0, batch_size=24)
        finished.append(sum(item.finished for item in items))
    assert finished[0] < 6 < finished[1]
