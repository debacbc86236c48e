"""SFT and DPO are those of TRL for a causal model, and SFT that of Transformers for an encoder-decoder."""

import math

import pytest
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer as TRLDPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer as TRLSFTTrainer

from pipeline.methods.dpo.trainer import DPOTrainer
from pipeline.methods.sft.trainer import SFTTrainer
from pipeline.preferences.pairs import chosen
from tests.methods.trainings import train
from tests.policy.tiny_llama import LLAMA, pairs, perturb, section
from tests.policy.tiny_t5 import T5

PAIRS = pairs(12)
IGNORED = -100
CURVES = {
    "loss": "policy/loss",
    "grad_norm": "policy/grad_norm",
    "learning_rate": "policy/learning_rate",
    "rewards/chosen": "objective/chosen_reward",
    "rewards/rejected": "objective/rejected_reward",
    "rewards/margins": "objective/reward_margin",
    "rewards/accuracies": "objective/reward_accuracy",
}


def policy_of(tiny, reference="adapter off"):
    """Return a policy without dropout whose adapter is away from its reference, so that no loss is a coin's."""
    tiny.write_base(**({"dropout_rate": 0.0} if tiny is T5 else {}))
    if reference == "reference adapter on":
        tiny.write_task_reference()
    policy = tiny.new_policy(dropout=0.0)
    torch.manual_seed(3)
    perturb(policy.model, 0.2)
    return policy


class PreparedDPOTrainer(TRLDPOTrainer):
    """TRL's trainer on token ids; its own preparation tokenizes text and appends EOS."""

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset


def arguments(settings):
    return {
        "output_dir": "trl",
        "learning_rate": settings.learning_rate,
        "warmup_steps": settings.warmup_ratio,
        "num_train_epochs": settings.epochs,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "max_grad_norm": settings.max_grad_norm,
        "weight_decay": settings.weight_decay,
        "seed": 0,
        "data_seed": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
    }


def trl_dpo(policy, settings):
    """Return TRL's trainer; its reference is a model of its own, loaded from disk, with no adapter left on it."""
    reference = LLAMA.load("reference").model
    rows = [{key: getattr(pair, key) for key in ("prompt_ids", "chosen_ids", "rejected_ids")} for pair in PAIRS]
    given = DPOConfig(**arguments(settings), beta=settings.beta, max_length=None, gradient_checkpointing=False)
    return PreparedDPOTrainer(
        policy.model,
        reference.merge_and_unload() if hasattr(reference, "merge_and_unload") else reference,
        given,
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )


def trl_sft(policy, settings):
    rows = [
        {
            "input_ids": [*item.prompt.token_ids, *item.token_ids],
            "labels": [IGNORED] * len(item.prompt.token_ids) + [*item.token_ids],
        }
        for item in chosen(PAIRS)
    ]
    prepared = {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None, "gradient_checkpointing": False}
    return TRLSFTTrainer(
        policy.model,
        SFTConfig(**arguments(settings), **prepared),
        train_dataset=Dataset.from_list(rows),
        processing_class=policy.tokenizer,
    )


def transformers_sft(policy, settings):
    """Return Transformers' trainer; the model itself says what its decoder reads for these labels."""

    def collate(rows):
        batch = {
            key: pad_sequence([torch.tensor(row[key]) for row in rows], batch_first=True, padding_value=value)
            for key, value in {"input_ids": 0, "attention_mask": 0, "labels": IGNORED}.items()
        }
        reads = policy.language_model.prepare_decoder_input_ids_from_labels(batch["labels"])
        return batch | {"decoder_input_ids": reads}

    def loss(outputs, labels, num_items_in_batch):  # that of an update, over its micro-batches
        sums = cross_entropy(outputs.logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return sums / num_items_in_batch

    rows = [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": list(item.token_ids)}
        for item in chosen(PAIRS)
        for ids in [list(item.prompt.token_ids)]
    ]
    given = Seq2SeqTrainingArguments(**arguments(settings), remove_unused_columns=False)
    dataset = Dataset.from_list(rows)
    return Seq2SeqTrainer(policy.model, given, data_collator=collate, train_dataset=dataset, compute_loss_func=loss)


def gradient(policy):
    found = torch.cat([weight.grad.flatten() for weight in policy.trainable()["adapter"]])
    policy.model.zero_grad()
    return found


BATCHES = [
    ("sft", "adapter off", trl_sft, SFTTrainer, chosen(PAIRS)),
    ("dpo", "adapter off", trl_dpo, DPOTrainer, PAIRS),
    ("dpo", "reference adapter on", trl_dpo, DPOTrainer, PAIRS),
]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")


@pytest.mark.parametrize(("method", "reference", "trl", "ours", "examples"), BATCHES)
def test_loss_and_gradient_of_a_batch_are_trl_s(method, reference, trl, ours, examples):
    policy = policy_of(LLAMA, reference)
    settings = section(method, batch_size=12, gradient_accumulation=1, epochs=1)
    theirs = trl(policy, settings)
    theirs.model.train()
    (batch,) = theirs.get_train_dataloader()
    expected = theirs.compute_loss(theirs.model, batch)
    expected.backward()
    wanted = gradient(policy)
    policy.model.eval()
    found = ours(policy, examples, settings, 0).accumulate(range(12), range(12))
    assert found["policy/loss"] == pytest.approx(expected.item(), abs=1e-5)
    assert abs(expected.item() - math.log(2)) > 1e-2, "the policy is not its reference, or the test says little"
    torch.testing.assert_close(gradient(policy), wanted, atol=1e-5, rtol=1e-5)
    assert wanted.norm() > 0.1
    if method == "dpo":
        for side in ("chosen", "rejected"):
            (reported,) = theirs._metrics["train"][f"rewards/{side}"]
            assert found[f"objective/{side}_reward"] == pytest.approx(reported, abs=1e-5)


TRAININGS = [
    (LLAMA, "sft", "adapter off", trl_sft),
    (LLAMA, "dpo", "adapter off", trl_dpo),
    (LLAMA, "dpo", "reference adapter on", trl_dpo),
    (T5, "sft", "adapter off", transformers_sft),
]


@pytest.mark.parametrize(("tiny", "method", "reference", "oracle"), TRAININGS)
def test_a_whole_training_is_theirs(tiny, method, reference, oracle):
    """Three epochs, each of one full update and of one that is not: order, warm-up, decay, clipping and AdamW."""
    changes = {"learning_rate": 1e-3, "batch_size": 2, "gradient_accumulation": 4, "epochs": 3, "warmup_ratio": 0.3}
    settings = section(method, **changes, weight_decay=0.1, max_grad_norm=0.5)
    policy = policy_of(tiny, reference)
    theirs = oracle(policy, settings)
    theirs.train()
    moved = [weight.detach().clone() for weight in policy.trainable()["adapter"]]
    logs = [row for row in theirs.state.log_history if "loss" in row]
    policy = policy_of(tiny, reference)
    start = [weight.detach().clone() for weight in policy.trainable()["adapter"]]
    rows = train(policy, method, PAIRS, settings).curves
    assert len(rows) == len(logs) == 6
    for ours, log in zip(rows, logs, strict=True):
        expected = {name: log[key] for key, name in CURVES.items() if key in log}
        assert {key: ours[key] for key in expected} == pytest.approx(expected, abs=1e-4, rel=1e-4)
    assert rows[0].keys() == {"step", "objective/entropy", *expected}
    for weight, their, before in zip(policy.trainable()["adapter"], moved, start, strict=True):
        assert (weight - their).norm() < 1e-2 * (their - before).norm()
