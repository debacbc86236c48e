"""The packed model against TRL's own computation, on the same batches: the same numbers, without the waste."""

from pathlib import Path

import pytest
import torch
from pipeline.methods.loop.curves import SUPERVISED_CURVES, CurveCallback
from pipeline.methods.loop.packing import IGNORED, PackedModel, pack
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.sft_trainer import SFTTrainer

from pipeline.methods.dpo import causal as dpo
from pipeline.methods.sft import causal as sft
from pipeline.preferences.pairs import chosen
from tests.policy import tiny_llama

METHODS = {"sft": sft, "dpo": dpo}
FIELDS = ("log_probs", "entropy", "mean_logits", "is_top1", "label_mask")


class PlainDPOTrainer(DPOTrainer):
    """TRL's trainer as it is, with the reference that it makes itself, but for the preparation that appends EOS."""

    def __init__(self, *, ref_model, **given):
        super().__init__(**given)

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset


PLAIN = {"sft": SFTTrainer, "dpo": PlainDPOTrainer}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a working directory with the experiment `exp`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base()


def trainer_of(method, monkeypatch=None):
    """Return our trainer, or with `monkeypatch` TRL's, for the same pairs and a policy that differs from its base."""
    room = METHODS[method]
    policy = tiny_llama.new_policy()
    if monkeypatch is not None:
        monkeypatch.setattr(room, f"Packed{method.upper()}Trainer", PLAIN[method])
    section = tiny_llama.section(method, batch_size=5, gradient_accumulation=2, epochs=1)
    curves = CurveCallback(SUPERVISED_CURVES if room is sft else room._CURVES, lambda step, row: None)
    pairs = tiny_llama.pairs(12)
    given = chosen(pairs) if method == "sft" else pairs
    trainer = room.make_trainer(policy.model, policy.tokenizer, given, section, 0, tiny_llama.checkpoints(), curves)
    torch.manual_seed(3)
    tiny_llama.perturb(policy.model)  # after TRL's look at the reference, so that rewards are not 0
    return trainer, curves


def batch_of(rows):
    """Return ids, attention mask and labels of (prompt, completion) rows, padded with 2 on the right."""
    width = max(len(prompt + completion) for prompt, completion in rows)
    ids, attended, labels = (torch.full((len(rows), width), value) for value in (2, 0, IGNORED))
    for row, (prompt, completion) in enumerate(rows):
        length = len(prompt + completion)
        ids[row, :length], attended[row, :length] = torch.tensor(prompt + completion), 1
        labels[row, len(prompt) : length] = torch.tensor(completion)
    return {"input_ids": ids, "attention_mask": attended, "labels": labels}


ROWS = [([5, 6, 7], [8, 9]), ([4], [8]), ([5, 6, 7], [9, 9, 2]), ([5, 6], [7, 8, 9])]


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_s_loss_and_gradients_are_those_of_plain_trl(method, monkeypatch):
    found = []
    for patch in (None, monkeypatch):
        trainer, _ = trainer_of(method, patch)
        batch = next(iter(trainer.get_train_dataloader()))
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        gradients = [item.grad for item in trainer.model.parameters() if item.requires_grad]
        found.append((loss.detach(), gradients))
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert max(float(item.abs().max()) for item in their_gradients) > 1e-3
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_training_s_curves_are_those_of_plain_trl(method, monkeypatch):
    found = []
    for patch in (None, monkeypatch):
        trainer, curves = trainer_of(method, patch)
        trainer.train()
        found.append(curves.rows)
    assert [set(row) for row in found[0]] == [set(row) for row in found[1]]
    for ours, theirs in zip(*found, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)
    assert method == "sft" or abs(found[0][0]["objective/reward_margin"]) > 0.01, (
        "else accuracy is a matter of rounding"
    )


def test_the_reference_s_log_probabilities_are_those_of_plain_trl(monkeypatch):
    ours, theirs = (trainer_of("dpo", patch)[0].train_dataset for patch in (None, monkeypatch))
    for side in ("ref_chosen_logps", "ref_rejected_logps"):
        torch.testing.assert_close(torch.tensor(ours[side]), torch.tensor(theirs[side]), atol=1e-4, rtol=0)


def test_every_field_is_that_of_trl_s_fused_head(monkeypatch):
    trainer, _ = trainer_of("dpo", monkeypatch)
    batch = batch_of(ROWS)
    with torch.no_grad():
        theirs = trainer.model(**batch, use_cache=False, fused_lm_head=True)
        ours = PackedModel(trainer.model)(**batch, use_cache=False, fused_lm_head=True)
    for field in FIELDS:
        torch.testing.assert_close(getattr(ours, field), getattr(theirs, field), atol=1e-5, rtol=0)
    assert ours.label_mask.sum() == sum(len(completion) for _, completion in ROWS)


def test_a_row_does_not_see_the_others():
    model = PackedModel(tiny_llama.new_policy().model)
    with torch.no_grad():
        together = model(**batch_of(ROWS), fused_lm_head=True).log_probs
        for row, found in zip(ROWS, together, strict=True):
            alone = model(**batch_of([row]), fused_lm_head=True).log_probs[0]
            torch.testing.assert_close(found[: len(alone)], alone, atol=1e-5, rtol=0)
            assert not found[len(alone) :].any()


def test_a_prompt_is_read_once_and_padding_never():
    batch = batch_of(ROWS)
    packed = pack(batch["input_ids"], batch["attention_mask"].sum(dim=1).tolist(), batch["labels"])
    assert packed.ids.tolist() == [5, 6, 7, 8, 9, 4, 8, 9, 9, 2, 5, 6, 7, 8, 9]
    for row, (prompt, completion) in enumerate(ROWS):
        places = packed.places[row, : len(prompt + completion)]
        assert packed.ids[places].tolist() == prompt + completion
        assert packed.positions[places].tolist() == list(range(len(prompt + completion)))
        for seen, place in enumerate(places):
            assert sorted(packed.visible[place].nonzero().flatten()) == sorted(places[: seen + 1])


def test_logits_are_computed_before_labels_only():
    policy = tiny_llama.new_policy()
    sizes = []
    head = policy.model.get_base_model().get_output_embeddings()
    head.register_forward_hook(lambda module, given, output: sizes.append(output.shape[:-1].numel()))
    PackedModel(policy.model)(**batch_of(ROWS), fused_lm_head=True)
    assert sizes == [sum(len(completion) for _, completion in ROWS)]


def test_a_batch_without_labels_is_a_zero_that_can_be_differentiated():
    policy = tiny_llama.new_policy()
    batch = batch_of(ROWS)
    batch["labels"][:] = IGNORED
    loss = PackedModel(policy.model)(**batch, fused_lm_head=True).log_probs.sum()
    loss.backward()
    assert loss == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_training_shows_its_bar_and_prints_no_logs(method, capfd, recwarn):
    trainer_of(method)[0].train()
    printed = "".join(capfd.readouterr())
    assert "2/2" in printed and "loss" not in printed
    assert not [item for item in recwarn if str(item.message).startswith("`gradient_checkpointing`")]
