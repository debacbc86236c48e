"""A whole supervised training on the tiny model."""

import pytest
import torch
from pipeline.methods.sft.fit import fit

from pipeline.policy import loading
from pipeline.preferences.pairs import chosen
from tests.policy import tiny_llama


def trained(pairs=None, **changes):
    """Train a fresh policy and return it with its curves and what was reported."""
    settings = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 6, "gradient_accumulation": 1}
    policy, reported = tiny_llama.new_policy(), []
    rows = fit(
        "causal",
        policy.model,
        policy.tokenizer,
        chosen(pairs or tiny_llama.pairs(12)),
        tiny_llama.section("sft", **(settings | changes)),
        0,
        tiny_llama.checkpoints("sft"),
        lambda step, row: reported.append({"step": step, **row}),
    )
    return policy, rows, reported


def likelihood(policy):
    policy.model.eval()
    with torch.no_grad():
        return policy.analyze(tiny_llama.completions_of(tiny_llama.pairs(12), "chosen")).logprobs.sum().item()


def test_it_makes_the_chosen_completions_likelier(workplace):
    before = likelihood(tiny_llama.new_policy())
    policy, rows, _ = trained()
    assert likelihood(policy) > before + 10
    assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]


def test_it_learns_nothing_from_the_rejected_completions(workplace):
    pairs = tiny_llama.pairs(12)
    swapped = [type(pair)(**{**vars(pair), "rejected_ids": [5, 6, 7]}) for pair in pairs]
    policies = [trained(given, epochs=1)[0] for given in (pairs, swapped)]
    weights = [policy.trainable()["adapter"] for policy in policies]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_base_weights_stay_and_the_whole_adapter_learns(workplace):
    fresh = tiny_llama.new_policy().model.state_dict()
    policy, _, _ = trained()
    after = policy.model.state_dict()
    changed = {name for name in fresh if not torch.equal(fresh[name], after[name])}
    assert changed == {name for name in fresh if "lora_" in name}


def test_curves_have_one_row_an_update_each_reported_and_no_time(workplace):
    _, rows, reported = trained()
    assert rows == reported
    assert [row["step"] for row in rows] == list(range(1, 9))
    named = {"policy/loss", "policy/grad_norm", "policy/learning_rate", "policy/token_accuracy", "objective/entropy"}
    assert all(set(row) == {"step"} | named for row in rows)


def test_the_learning_rate_rises_over_the_warmup_s_share_and_then_falls(workplace):
    _, rows, _ = trained(batch_size=3, epochs=5, warmup_ratio=0.25)
    rates = [row["policy/learning_rate"] for row in rows]
    peak = rates.index(max(rates))
    assert len(rates) == 20 and abs(peak - 5) <= 1
    assert max(rates) == pytest.approx(1e-2)
    assert rates[: peak + 1] == sorted(rates[: peak + 1]) and rates[peak:] == sorted(rates[peak:], reverse=True)


def test_two_trainings_give_the_same_bytes_and_leave_nothing_else(workplace):
    found = []
    for _ in range(2):
        policy, rows, _ = trained(epochs=2)
        folder = loading.save_adapter(policy.model, "exp", 0, "sft")
        found.append(({path.name: path.read_bytes() for path in folder.iterdir()}, rows))
    assert found[0] == found[1]
    assert set(found[0][0]) == {"adapter_config.json", "adapter_model.safetensors"}
    assert not [path for path in workplace.joinpath("checkpoints").rglob("*") if path.is_file()]
    assert {path.name for path in workplace.iterdir()} <= {"adapters", "models", "checkpoints"}


def test_a_trained_policy_loads_as_it_was(workplace):
    policy, _, _ = trained()
    loading.save_adapter(policy.model, "exp", 0, "sft")
    assert likelihood(tiny_llama.load("sft")) == pytest.approx(likelihood(policy), abs=1e-3)
