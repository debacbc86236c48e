"""What TRL's trainer really computes its loss on: the collated labels, and the loss itself."""

import pytest
import torch
from pipeline.methods.loop.curves import SUPERVISED_CURVES, CurveCallback

from pipeline.methods.sft import causal
from pipeline.preferences.pairs import chosen
from tests.policy import tiny_llama
from tests.policy.tiny_model import END


def trainer_of(policy, pairs, **changes):
    section = tiny_llama.section("sft", **({"batch_size": 5, "gradient_accumulation": 1, "epochs": 1} | changes))
    curves = CurveCallback(SUPERVISED_CURVES, lambda step, row: None)
    return causal.make_trainer(
        policy.model, policy.tokenizer, chosen(pairs), section, 0, tiny_llama.checkpoints(), curves
    )


@pytest.fixture
def batches(workplace):
    """Yield every collated row with the pair it was made of."""
    pairs = tiny_llama.pairs(12)
    waiting = {tuple(pair.prompt_ids + pair.chosen_ids): pair for pair in pairs}
    rows = []
    for batch in trainer_of(tiny_llama.new_policy(), pairs).get_train_dataloader():
        for ids, labels, attended in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
            length = int(attended.sum())
            rows.append((waiting.pop(tuple(ids[:length].tolist())), labels.tolist(), attended.tolist()))
    assert not waiting, "every pair is in one batch, its ids as they were sampled"
    return rows


def test_labels_are_the_chosen_ids_and_nothing_else(batches):
    for pair, labels, attended in batches:
        start, end = len(pair.prompt_ids), len(pair.prompt_ids) + len(pair.chosen_ids)
        assert labels[start:end] == pair.chosen_ids
        assert set(labels[:start] + labels[end:]) <= {causal.IGNORED}
        assert attended == [1] * end + [0] * (len(labels) - end)
    assert any(len(labels) > sum(attended) for _, labels, attended in batches), "some row is padded"


def test_end_is_a_target_only_where_it_was_emitted(batches):
    emitted = {pair.prompt_id: END in pair.chosen_ids for pair, _, _ in batches}
    assert set(emitted.values()) == {True, False}
    for pair, labels, _ in batches:
        assert labels.count(END) == int(emitted[pair.prompt_id])


def test_the_first_loss_is_the_mean_over_the_chosen_tokens(workplace):
    policy, pairs = tiny_llama.new_policy(), tiny_llama.pairs(12)
    with torch.no_grad():
        found = policy.analyze(tiny_llama.completions_of(pairs, "chosen"))
    trainer = trainer_of(policy, pairs, batch_size=12)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(-found.logprobs[found.mask].mean().item(), abs=1e-4)
