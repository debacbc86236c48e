"""Supervised training of an encoder-decoder: what it is given, what its loss is, what learns, and how it goes on."""

import pytest
import torch
from pipeline.methods.loop.curves import SUPERVISED_CURVES, CurveCallback
from pipeline.methods.loop.packing import IGNORED
from pipeline.methods.sft.fit import fit

from pipeline.methods.sft import seq2seq
from pipeline.policy import loading
from pipeline.policy.demonstrations import Example
from pipeline.preferences.pairs import chosen
from tests.policy import tiny_llama, tiny_t5
from tests.policy.tiny_model import END, START, section
from tests.policy.tiny_t5 import T5

QUICK = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 6, "gradient_accumulation": 1}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """Make a working directory with the experiment `exp`; its tokenizer adds no EOS to anything."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_t5.write_base()
    return tmp_path


def examples(count=12):
    return chosen(tiny_llama.pairs(count))


def trainer_of(policy, given, **changes):
    settings = section("sft", **(QUICK | {"epochs": 1} | changes))
    curves = CurveCallback(SUPERVISED_CURVES, lambda step, row: None)
    return seq2seq.make_trainer(policy.model, policy.tokenizer, given, settings, 0, tiny_llama.checkpoints(), curves)


def trained(policy, given=None, report=lambda step, row: None, **changes):
    settings = section("sft", **(QUICK | changes))
    given = given or examples()
    rows = fit("seq2seq", policy.model, policy.tokenizer, given, settings, 0, tiny_llama.checkpoints("sft"), report)
    policy.model.eval()
    return rows


@torch.no_grad()
def likelihood(policy):
    policy.model.eval()
    return policy.analyze(tiny_llama.completions_of(tiny_llama.pairs(12), "chosen")).logprobs.sum().item()


def test_labels_are_the_very_ids_and_the_decoder_reads_them_behind_its_start():
    waiting = {(tuple(item.prompt_ids), tuple(item.target_ids)) for item in examples()}
    widths = set()
    for batch in trainer_of(T5.new_policy(), examples(), batch_size=5).get_train_dataloader():
        for ids, attended, reads, labels in zip(
            *(batch[key] for key in ("input_ids", "attention_mask", "decoder_input_ids", "labels")), strict=True
        ):
            target = labels[labels != IGNORED].tolist()
            length = int(attended.sum())
            assert attended[:length].all(), "padding stands on the right"
            waiting.remove((tuple(ids[:length].tolist()), tuple(target)))
            assert labels[: len(target)].tolist() == target
            assert reads[: len(target)].tolist() == [START, *target[:-1]]
            assert target.count(END) == target[-1:].count(END)
            widths.add((len(ids) > length, len(labels) > len(target)))
    assert not waiting, "every example is in one batch, as it was given"
    assert {True} <= {wide for pair in widths for wide in pair}, "some row is padded"


@pytest.mark.parametrize("split", [(12, 1), (5, 3)])
def test_the_loss_is_the_mean_over_the_targets_of_an_update_however_it_is_split(split):
    T5.write_base(dropout_rate=0.0)
    policy = T5.new_policy()
    with torch.no_grad():
        found = policy.analyze(tiny_llama.completions_of(tiny_llama.pairs(12), "chosen"))
    trainer = trainer_of(policy, examples(), batch_size=split[0], gradient_accumulation=split[1])
    trainer.train()
    (first, *_) = trainer.state.log_history
    assert first["loss"] == pytest.approx(-found.logprobs[found.mask].mean().item(), abs=1e-4)
    if split == (12, 1):
        assert first["entropy"] == pytest.approx(found.entropy[found.mask].mean().item(), abs=1e-4)


def test_it_makes_the_targets_likelier_and_the_base_stays():
    fresh = T5.new_policy()
    before, weights = likelihood(fresh), fresh.model.state_dict()
    policy, reported = T5.new_policy(), []
    rows = trained(policy, report=lambda step, row: reported.append({"step": step, **row}))
    assert likelihood(policy) > before + 10
    assert rows == reported and [row["step"] for row in rows] == list(range(1, 9))
    named = {"policy/loss", "policy/grad_norm", "policy/learning_rate", "policy/token_accuracy", "objective/entropy"}
    assert all(set(row) == {"step"} | named for row in rows)
    after = policy.model.state_dict()
    assert {name for name in after if not torch.equal(weights[name], after[name])} == {
        name for name in weights if "lora_" in name
    }


def test_an_end_in_the_target_is_learnt_and_none_is_where_there_is_none():
    given = [Example(item.prompt_ids, [token for token in item.target_ids if token != END]) for item in examples()]
    ended = [Example(item.prompt_ids, [*item.target_ids, END]) for item in given]
    finished = []
    for targets in (given, ended):
        policy = T5.new_policy()
        trained(policy, targets, epochs=40)
        items = policy.complete(tiny_llama.prompts(12), decoding=tiny_decoding(), samples=2, seed=0, batch_size=24)
        finished.append(sum(item.finished for item in items))
    assert finished[0] < 6 < finished[1]


def tiny_decoding():
    from pipeline.policy.types import Decoding

    return Decoding(14)


def test_a_task_reference_stays_as_it_is_while_the_policy_leaves_it():
    T5.write_task_reference()
    policy = T5.new_policy()
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    trained(policy)
    after = policy.model.state_dict()
    assert {name for name in after if not torch.equal(before[name], after[name])} == {
        name for name in before if "lora_" in name and ".default." in name
    }


def test_bfloat16_trains_the_adapter_in_float32():
    settings = section("model", architecture="seq2seq", dtype="bfloat16")
    policy = T5.policy_of(loading.new_policy_model("exp", 0, settings, T5.lora()))
    before = likelihood(policy)
    trained(policy)
    assert likelihood(policy) > before + 10
    assert {weight.dtype for weight in policy.trainable()["adapter"]} == {torch.float32}


def test_two_trainings_give_the_same_bytes_and_leave_nothing_else(workplace):
    found = []
    for _ in range(2):
        policy = T5.new_policy()
        rows = trained(policy, epochs=2)
        folder = loading.save_adapter(policy.model, "exp", 0, "sft")
        found.append(({path.name: path.read_bytes() for path in folder.iterdir()}, rows))
    assert found[0] == found[1]
    assert not [path for path in workplace.joinpath("checkpoints").rglob("*") if path.is_file()]
