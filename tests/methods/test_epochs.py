"""What SFT and DPO have in common, for both architectures: epochs, updates, curves, dropout, and giving up."""

import math
from collections.abc import Callable

import pytest
import torch

from pipeline.io import paths
from pipeline.io.errors import NotFiniteError
from pipeline.methods.dpo.trainer import DPOTrainer
from pipeline.methods.loop.optimizer import Optimizer
from pipeline.methods.sft.trainer import SFTTrainer
from pipeline.policy import loading
from pipeline.preferences.pairs import chosen
from tests.methods.trainings import train
from tests.policy.tiny_llama import pairs
from tests.policy.tiny_model import NAME, SEED, completions, perturb, section
from tests.policy.tiny_t5 import T5

PAIRS = pairs(12)
SETTINGS = {"learning_rate": 1e-2, "epochs": 4, "batch_size": 4, "gradient_accumulation": 2}  # two updates an epoch
TRAINERS = {"sft": (SFTTrainer, chosen(PAIRS)), "dpo": (DPOTrainer, PAIRS)}
REWARDS = ("chosen_reward", "rejected_reward", "reward_margin", "reward_accuracy")
NAMED = {"policy/loss", "policy/grad_norm", "policy/learning_rate", "objective/entropy"}

pytestmark = pytest.mark.usefixtures("workplace")


@pytest.fixture(params=TRAINERS)
def method(request):
    return request.param


def trained(policy, method, **changes):
    given = {key: changes.pop(key) for key in ("report", "seed") if key in changes}
    return train(policy, method, PAIRS, section(method, **(SETTINGS | changes)), **given).curves


def adapter(policy):
    return [weight.detach().clone() for weight in policy.trainable()["adapter"]]


def equal(some, others):
    return all(torch.equal(*pair) for pair in zip(some, others, strict=True))


def without_dropout(tiny):
    tiny.write_base(**({"dropout_rate": 0.0} if tiny is T5 else {}))
    policy = tiny.new_policy(dropout=0.0)
    torch.manual_seed(3)
    perturb(policy.model)  # away from the reference, so that no reward is rounding alone
    return policy


def test_curves_have_one_row_an_update_each_reported_and_no_time(tiny, method):
    reported = []
    rows = trained(tiny.new_policy(), method, report=lambda step, row: reported.append({"step": step, **row}))
    assert rows == reported
    assert [row["step"] for row in rows] == list(range(1, 9))
    more = {f"objective/{name}" for name in REWARDS} if method == "dpo" else set()
    assert all(set(row) == {"step"} | NAMED | more for row in rows)


def test_the_learning_rate_rises_from_0_and_falls_by_updates(tiny, method):
    rates = [row["policy/learning_rate"] for row in trained(tiny.new_policy(), method, warmup_ratio=0.3)]
    assert rates == pytest.approx([0.0, 1e-2 / 3, 2e-2 / 3, 1e-2, 0.8e-2, 0.6e-2, 0.4e-2, 0.2e-2])


def test_every_epoch_has_every_example_once_in_an_order_of_the_seed(tiny, method):
    kind, examples = TRAINERS[method]
    drawn = []
    for seed in (0, 0, 1):
        trainer = kind(tiny.new_policy(), examples, section(method, **SETTINGS), seed)
        updates = [trainer.step(done).completions for done in range(trainer.steps)]
        drawn.append([list(dict.fromkeys(item.prompt.id for item in update)) for update in updates])
    assert drawn[0] == drawn[1] != drawn[2]
    assert [len(update) for update in drawn[0]] == [8, 4] * 4
    epochs = [first + second for first, second in zip(drawn[0][::2], drawn[0][1::2], strict=True)]
    assert all(sorted(epoch) == sorted(pair.prompt_id for pair in PAIRS) for epoch in epochs)
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize(("size", "accumulation"), [(1, 12), (4, 3), (5, 3)])
def test_accumulated_micro_batches_are_one_big_batch(tiny, method, size, accumulation):
    """Twelve examples fill no whole number of batches of five: each token, or each pair, counts the same."""
    whole, parts = (without_dropout(tiny) for _ in range(2))
    expected = trained(whole, method, batch_size=12, gradient_accumulation=1)
    rows = trained(parts, method, batch_size=size, gradient_accumulation=accumulation)
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4)
    for one, other in zip(adapter(parts), adapter(whole), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-2)


def test_only_the_policy_adapter_learns_and_all_of_it(tiny, method):
    tiny.write_task_reference()
    file = paths.adapter(NAME, SEED, "reference") / "adapter_model.safetensors"
    written = file.read_bytes()
    policy = tiny.new_policy()
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    head = [weight.detach().clone() for weight in policy.trainable()["value_head"]]
    trained(policy, method)
    changed = {name for name, value in policy.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "lora_" in name and ".default." in name}
    assert equal(policy.trainable()["value_head"], head) and file.read_bytes() == written


def test_bfloat16_trains_the_adapter_in_float32(tiny, method):
    settings = section("model", architecture=tiny.architecture, dtype="bfloat16")
    policy = tiny.policy_of(loading.new_policy_model(NAME, SEED, settings, tiny.lora()))
    rows = trained(policy, method, epochs=12)
    assert rows[-1]["policy/loss"] < rows[0]["policy/loss"]
    assert {weight.dtype for weight in adapter(policy)} == {torch.float32}


def test_two_trainings_give_the_same_bytes_another_seed_gives_others_and_they_leave_nothing_else(
    tiny, method, workplace
):
    found = []
    for seed in (0, 0, 1):
        policy = tiny.new_policy()
        rows = trained(policy, method, seed=seed)
        folder = loading.save_adapter(policy.model, NAME, SEED, method)
        found.append(({path.name: path.read_bytes() for path in folder.iterdir()}, rows))
    assert found[0] == found[1] != found[2]
    assert set(found[0][0]) == {"adapter_config.json", "adapter_model.safetensors"}
    assert not [path for path in workplace.joinpath("checkpoints").rglob("*") if path.is_file()]
    assert {path.name for path in workplace.iterdir()} <= {"adapters", "models", "checkpoints"}
    with torch.no_grad():
        expected = policy.analyze(completions(8)).logprobs
        torch.testing.assert_close(tiny.load(method).analyze(completions(8)).logprobs, expected, atol=1e-4, rtol=0)


def test_dropout_is_on_in_sft_and_off_in_dpo(tiny, method):
    """LoRA's, and that which the encoder-decoder has itself; afterwards both are off."""
    policy, active = tiny.new_policy(dropout=0.5), set()
    layers = [layer for layer in policy.model.modules() if isinstance(layer, torch.nn.Dropout)]
    for layer in layers:
        layer.register_forward_pre_hook(lambda layer, _: active.add(layer.training))
    policy.model.train()
    trained(policy, method)
    assert active == {method == "sft"}
    assert not any(layer.training for layer in layers)


def test_a_training_shows_its_bar_and_prints_no_logs(tiny, method, capfd):
    trained(tiny.new_policy(), method)
    printed = capfd.readouterr()
    assert "8/8" in printed.err and "loss=" in printed.err and "grad_norm" not in printed.err
    assert printed.out == ""


def poisoned_gradient(policy) -> Callable[[], object]:
    """Return what makes every gradient of one LoRA matrix NaN from now on."""
    weight = policy.trainable()["adapter"][3]
    return lambda: weight.register_hook(lambda found: found * math.nan)


def poisoned_weight(policy) -> Callable[[], object]:
    """Return what makes one weight of the adapter NaN."""

    def poison() -> None:
        with torch.no_grad():
            policy.trainable()["adapter"][0][0, 0] = math.nan

    return poison


@pytest.mark.parametrize("poison", [poisoned_gradient, poisoned_weight])
def test_what_is_no_number_ends_the_training_with_the_last_good_weights(tiny, method, poison):
    """Of the weights after the third step no number is known: the second's are the last that computed some."""
    policy, after = tiny.new_policy(), []
    break_it = poison(policy)

    def report(step, row):
        after.append(adapter(policy))
        if step == 3:
            break_it()

    with pytest.raises(NotFiniteError) as raised:
        trained(policy, method, report=report)
    message, prompts = str(raised.value), raised.value.prompt_ids
    assert message.startswith(f"{method} step 4: a loss or gradient is not finite (prompts ")
    assert message.endswith(f"; lower methods.{method}.learning_rate or use model.dtype float32; put back to step 2")
    assert len(prompts) == 4 and set(prompts) < {pair.prompt_id for pair in PAIRS}
    assert ", ".join(prompts) in message
    assert len(after) == 3 and equal(adapter(policy), after[1])


def test_weights_that_the_last_step_breaks_are_found_out(tiny, method, monkeypatch):
    """No step follows that would meet them."""
    policy, steps, after = tiny.new_policy(), [], []
    step = Optimizer.step

    def breaking(optimizer):
        step(optimizer)
        steps.append(1)
        if len(steps) == 8:
            poisoned_weight(policy)()

    monkeypatch.setattr(Optimizer, "step", breaking)
    with pytest.raises(NotFiniteError, match=f"{method} step 8: a weight is not finite.*put back to step 7"):
        trained(policy, method, report=lambda *_: after.append(adapter(policy)))
    assert len(after) == 7 and equal(adapter(policy), after[-1])


def test_a_base_that_is_no_number_ends_the_training_before_it_begins(tiny, method):
    policy = tiny.new_policy()
    with torch.no_grad():
        policy.language_model.get_input_embeddings().weight[5:, 1] = math.inf
    before = adapter(policy)
    with pytest.raises(NotFiniteError, match=f"{method} step 1: .*put back to step 0"):
        trained(policy, method)
    assert equal(adapter(policy), before)
