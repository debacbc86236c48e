"""A training that is interrupted after any update and continued ends with the bits of one that was not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pipeline.methods.dpo.fit import fit as fit_dpo
from pipeline.methods.ppo.train import train as train_ppo
from pipeline.methods.sft.fit import fit as fit_sft
from torch import Tensor

from pipeline.methods.loop.checkpoints import Checkpoints
from pipeline.preferences.pairs import chosen
from tests.methods.ppo.tiny_ppo import reward_of, section
from tests.policy import tiny_llama

UPDATES = 6
PARTS = {"code": "this"}
Report = Callable[[int, dict[str, float]], None]
# Every running number of PPO is in use: a KL target, scaled scores, a warm-up, minibatches in random order.
PPO = {"steps": UPDATES, "warmup_steps": 2, "kl_target": 0.5, "score_scaling": "normalize", "whiten_rewards": True}


class Interrupted(Exception):
    """The power is gone."""


def supervised(method: str, policy: Any, checkpoints: Checkpoints, report: Report) -> Any:
    """Train with SFT or DPO: three epochs of two updates, each of two batches and then of one that is not full."""
    settings = tiny_llama.section(method, learning_rate=1e-2, epochs=3, batch_size=4, gradient_accumulation=2)
    pairs, rest = tiny_llama.pairs(12), (settings, 0, checkpoints, report)
    if method == "sft":
        return fit_sft("causal", policy.model, policy.tokenizer, chosen(pairs), *rest)
    return fit_dpo("causal", policy, policy.model, policy.tokenizer, pairs, *rest)


def train(method: str, policy: Any, checkpoints: Checkpoints, report: Report) -> Any:
    """Train with a method and return all that it tells."""
    if method != "ppo":
        return supervised(method, policy, checkpoints, report)
    return train_ppo(policy, tiny_llama.prompts(30), reward_of(), section(**PPO), 0, checkpoints, report)


def weights(policy: Any) -> list[Tensor]:
    """Return a copy of the adapter and, of PPO, the value head."""
    return [parameter.detach().clone() for group in policy.trainable().values() for parameter in group]


def interrupting(at: int) -> Report:
    """Return a report that ends the training when it hears of an update."""

    def report(step: int, _: dict[str, float]) -> None:
        if step == at:
            raise Interrupted

    return report


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny_llama.write_base()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return method -> what a training without checkpoints tells, and its weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        patch.setenv("DEVICE", "cpu")
        tiny_llama.write_base()
        found = {}
        for method in ("sft", "dpo", "ppo"):
            policy = tiny_llama.new_policy()
            told = train(method, policy, tiny_llama.checkpoints(method), lambda *_: None)
            found[method] = (told, weights(policy))
        return found


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("at", range(2, UPDATES + 1))
@pytest.mark.parametrize("method", ["sft", "dpo", "ppo"])
def test_whenever_it_is_interrupted_the_bits_are_the_same(method, at, undisturbed):
    checkpoints = tiny_llama.checkpoints(method, every=1, **PARTS)
    with pytest.raises(Interrupted):
        train(method, tiny_llama.new_policy(), checkpoints, interrupting(at))
    heard: list[int] = []
    torch.manual_seed(12345)  # another process has other numbers in its generators
    policy = tiny_llama.new_policy()
    told = train(method, policy, tiny_llama.checkpoints(method, every=1, **PARTS), lambda step, _: heard.append(step))
    assert heard == list(range(at, UPDATES + 1)), "only what was lost is done again"
    assert told == undisturbed[method][0]
    assert all(torch.equal(*pair) for pair in zip(weights(policy), undisturbed[method][1], strict=True))


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("method", ["sft", "dpo", "ppo"])
def test_a_training_that_only_had_to_be_saved_is_not_done_again(method, undisturbed):
    for _ in range(2):
        heard: list[int] = []
        policy = tiny_llama.new_policy()
        checkpoints = tiny_llama.checkpoints(method, every=4, **PARTS)
        told = train(method, policy, checkpoints, lambda step, _, heard=heard: heard.append(step))
        assert told == undisturbed[method][0]
    assert heard == []
    assert all(torch.equal(*pair) for pair in zip(weights(policy), undisturbed[method][1], strict=True))


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("method", ["sft", "dpo", "ppo"])
def test_a_checkpoint_of_something_else_is_not_continued(method, undisturbed, caplog):
    with pytest.raises(Interrupted):
        train(method, tiny_llama.new_policy(), tiny_llama.checkpoints(method, every=1, code="that"), interrupting(4))
    heard: list[int] = []
    checkpoints = tiny_llama.checkpoints(method, every=1, **PARTS)
    told = train(method, tiny_llama.new_policy(), checkpoints, lambda step, _: heard.append(step))
    assert heard == list(range(1, UPDATES + 1)) and told == undisturbed[method][0]
    assert any("of a training with other code" in record.getMessage() for record in caplog.records)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("method", ["sft", "dpo", "ppo"])
def test_a_checkpoint_holds_no_pickle_of_a_program_and_one_is_kept(method):
    checkpoints = tiny_llama.checkpoints(method, every=2, **PARTS)
    train(method, tiny_llama.new_policy(), checkpoints, lambda *_: None)
    (folder,) = checkpoints.folder.iterdir()
    assert folder.name == f"step-{UPDATES:06d}"
    names = {path.name for path in folder.iterdir()}
    assert "training_args.bin" not in names
    assert any(name.endswith(".safetensors") for name in names)
