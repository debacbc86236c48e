"""For a causal model our loss, our gradient and our whole training are TRL's.

TRL's loss is computed on log-probabilities that methods/loop/packing.py gives it;
`tests/methods/loop/test_packing.py` holds these to plain TRL's.
"""

import math

import pytest
import torch
from pipeline.methods.loop.curves import CurveCallback

from pipeline.methods.dpo import causal, trainer
from pipeline.methods.dpo.trainer import preference_loss
from pipeline.policy.adapters import REFERENCE_ADAPTER, adapters_of
from tests.policy import tiny_llama

PAIRS, BETA = 12, 0.3
REFERENCES = ["adapter off", "reference adapter on"]


def policy_of(reference, scale=0.2):
    """Return a policy whose adapter is away from its reference by noise, so that the loss is not that of a coin."""
    if reference == "reference adapter on":
        tiny_llama.write_task_reference()
    policy = tiny_llama.new_policy()
    torch.manual_seed(3)
    tiny_llama.perturb(policy.model, scale)
    return policy


def section(**changes):
    settings = {"learning_rate": 1e-3, "batch_size": PAIRS, "gradient_accumulation": 1, "epochs": 1, "beta": BETA}
    return tiny_llama.section("dpo", **(settings | changes))


def trl_of(policy, dpo):
    """Return TRL's trainer, and the list that its curves will stand in."""
    pairs, curves = tiny_llama.pairs(PAIRS), CurveCallback(causal._CURVES, lambda step, row: None)
    made = causal.make_trainer(policy.model, policy.tokenizer, pairs, dpo, 0, tiny_llama.checkpoints(), curves)
    return made, curves


def logprobs(policy, ids):
    """Return the pairs' log-probabilities, chosen and rejected, in the order of these prompts' ids."""
    by_prompt = {tuple(pair.prompt_ids): pair for pair in tiny_llama.pairs(PAIRS)}
    pairs = [by_prompt[prompt] for prompt in ids]
    return [policy.analyze(tiny_llama.completions_of(pairs, side)).logprobs.sum(1) for side in ("chosen", "rejected")]


def prompts_of(batch):
    """Return the prompts of a collated batch; the second half has them again."""
    half = len(batch["input_ids"]) // 2
    rows = zip(batch["input_ids"][:half], batch["completion_mask"][:half], strict=True)
    return [tuple(ids[: int(mask.argmax())].tolist()) for ids, mask in rows]


def gradient(policy, loss):
    policy.model.zero_grad()
    loss.backward()
    return torch.cat([weight.grad.flatten() for weight in policy.trainable()["adapter"]])


@pytest.mark.parametrize("reference", REFERENCES)
def test_loss_and_gradient_of_a_batch_are_trl_s(workplace, reference):
    policy = policy_of(reference)
    theirs, _ = trl_of(policy, section())
    (batch,) = theirs.get_train_dataloader()
    theirs.model.train()
    expected = theirs.compute_loss(theirs.model, batch)
    wanted = gradient(policy, expected)
    policy.model.eval()
    with torch.no_grad(), policy.acting_as("reference"):
        ref = logprobs(policy, prompts_of(batch))
    found = preference_loss(*logprobs(policy, prompts_of(batch)), *ref, BETA)
    assert found.losses.mean().item() == pytest.approx(expected.item(), abs=1e-5)
    assert abs(expected.item() - math.log(2)) > 1e-2, "the adapter tells chosen from rejected, or the test says little"
    torch.testing.assert_close(gradient(policy, found.losses.mean()), wanted, atol=1e-5, rtol=1e-3)
    assert wanted.norm() > 0.1
    for name in ("chosen", "rejected"):
        reported = theirs._metrics["train"][f"rewards/{name}"][-1]
        assert getattr(found, f"{name}_rewards").mean().item() == pytest.approx(reported, abs=1e-5)


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("batches", [{}, {"batch_size": 4, "gradient_accumulation": 3}], ids=["whole", "accumulated"])
def test_a_whole_training_is_trl_s(workplace, reference, batches):
    """Every update has all pairs, in an order of its own: warm-up, decay, clipping and AdamW are the same."""
    dpo = section(epochs=6, warmup_ratio=0.3, weight_decay=0.1, max_grad_norm=0.5, **batches)
    policy = policy_of(reference)
    theirs, curves = trl_of(policy, dpo)
    theirs.go_on()
    expected = [weight.detach().clone() for weight in policy.trainable()["adapter"]]
    policy = policy_of("as it is on disk")
    start = [weight.detach().clone() for weight in policy.trainable()["adapter"]]
    rows = trainer.train(policy, tiny_llama.pairs(PAIRS), dpo, 0, tiny_llama.checkpoints(), lambda *_: None)
    for ours, trl in zip(rows, curves.rows, strict=True):
        assert ours.keys() == trl.keys()
        if batches:  # TRL's entropy is the mean of its micro-batches' means, and ours that of all tokens
            ours, trl = ({k: v for k, v in row.items() if k != "objective/entropy"} for row in (ours, trl))
        assert ours == pytest.approx(trl, abs=1e-4, rel=1e-4)
    moved = torch.cat([(one - other).flatten() for one, other in zip(expected, start, strict=True)])
    apart = [(one - other).flatten() for one, other in zip(policy.trainable()["adapter"], expected, strict=True)]
    assert torch.cat(apart).norm() < 1e-2 * moved.norm() and moved.norm() > 0.01


def test_trl_measures_against_the_task_reference_and_not_against_the_base(workplace):
    """A policy that starts as the task's adapter is its reference; the base would be another one."""
    tiny_llama.write_task_reference()
    policy = tiny_llama.new_policy()
    theirs, curves = trl_of(policy, section())
    assert adapters_of(policy.model) == {"default", REFERENCE_ADAPTER}
    theirs.go_on()
    assert curves.rows[0]["policy/loss"] == pytest.approx(math.log(2), abs=1e-5)
    policy = tiny_llama.new_policy()
    ids = [tuple(pair.prompt_ids) for pair in tiny_llama.pairs(PAIRS)]
    with torch.no_grad():
        own = logprobs(policy, ids)
        with policy.acting_as("base"):
            off = logprobs(policy, ids)
    assert abs(preference_loss(*own, *off, BETA).losses.mean().item() - math.log(2)) > 1e-2
