"""What TRL's trainer really compares: the collated ids and masks, the reference's log-probabilities, the first loss."""

import math

import pytest
import torch
from pipeline.methods.loop.curves import CurveCallback

from pipeline.methods.dpo import causal
from tests.policy import tiny_llama
from tests.policy.tiny_model import END


def trainer_of(policy, pairs, **changes):
    section = tiny_llama.section("dpo", **({"batch_size": 5, "gradient_accumulation": 1, "epochs": 1} | changes))
    curves = CurveCallback(causal._CURVES, lambda step, row: None)
    return causal.make_trainer(policy.model, policy.tokenizer, pairs, section, 0, tiny_llama.checkpoints(), curves)


@pytest.fixture
def rows(workplace):
    """Return every collated row as its real ids, the ids its mask covers, its length and its width."""
    collated = []
    for batch in trainer_of(tiny_llama.new_policy(), tiny_llama.pairs(12)).get_train_dataloader():
        fields = (batch["input_ids"], batch["completion_mask"].bool(), batch["attention_mask"].bool())
        for ids, mask, attended in zip(*fields, strict=True):
            length = int(attended.sum())
            assert attended[:length].all(), "padding stands on the right"
            collated.append((ids[:length].tolist(), ids[mask].tolist(), mask.nonzero().flatten().tolist(), len(ids)))
    return collated


def test_every_chosen_and_rejected_completion_is_there_as_it_was_sampled(rows):
    pairs = tiny_llama.pairs(12)
    expected = [pair.prompt_ids + ids for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)]
    assert sorted(ids for ids, _, _, _ in rows) == sorted(expected)
    assert any(width > len(ids) for ids, _, _, width in rows), "some row is padded"


def test_the_mask_covers_exactly_the_completion(rows):
    pairs = tiny_llama.pairs(12)
    completions = {tuple(pair.prompt_ids + ids): ids for pair in pairs for ids in (pair.chosen_ids, pair.rejected_ids)}
    for ids, covered, places, _ in rows:
        assert covered == completions[tuple(ids)]
        assert places == list(range(len(ids) - len(covered), len(ids)))


def test_end_is_compared_only_where_it_was_emitted(rows):
    emitted = [covered.count(END) for _, covered, _, _ in rows]
    pairs = tiny_llama.pairs(12)
    assert sum(emitted) == sum((pair.chosen_ids + pair.rejected_ids).count(END) for pair in pairs)
    assert 0 < sum(emitted) < len(rows)


@pytest.mark.parametrize("kind", ["adapter off", "reference adapter on"])
def test_the_reference_s_log_probabilities_are_the_reference_s(workplace, kind):
    if kind == "reference adapter on":
        tiny_llama.write_task_reference()
    policy, pairs = tiny_llama.new_policy(), tiny_llama.pairs(12)
    dataset = trainer_of(policy, pairs).train_dataset
    policy.model.eval()
    for side in ("chosen", "rejected"):
        with torch.no_grad(), policy.acting_as("reference"):
            expected = policy.analyze(tiny_llama.completions_of(pairs, side)).logprobs.sum(dim=1)
        torch.testing.assert_close(torch.tensor(dataset[f"ref_{side}_logps"]), expected, atol=1e-3, rtol=0)


def test_the_first_loss_is_that_of_a_coin(workplace):
    trainer = trainer_of(tiny_llama.new_policy(), tiny_llama.pairs(12), batch_size=12)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-4)
