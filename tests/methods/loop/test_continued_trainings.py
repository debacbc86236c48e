"""A training that is interrupted after any update and continued ends with the bits of one that was not."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.methods.loop.checkpoints import Checkpoints
from tests.methods.ppo.tiny_ppo import reward_of
from tests.methods.ppo.tiny_ppo import section as ppo_section
from tests.methods.trainings import train
from tests.policy import tiny_llama
from tests.policy.tiny_model import TinyModel, section

UPDATES = 6
# Three epochs of two updates, each of two batches and then of one that is not full.
SUPERVISED = {"learning_rate": 1e-2, "epochs": 3, "batch_size": 4, "gradient_accumulation": 2, "weight_decay": 0.1}
# Every running number of PPO is in use: a KL target, scaled scores, a warm-up, minibatches in random order.
PPO = {"steps": UPDATES, "warmup_steps": 2, "kl_target": 0.5, "score_scaling": "normalize", "whiten_rewards": True}
METHODS = ["sft", "dpo", "ppo"]


class Interrupted(Exception):
    """The power is gone."""


class Trained:
    """A fresh policy with dropout, trained until update `until` is heard of, and what it told."""

    def __init__(self, tiny: TinyModel, method: str, checkpoints: Checkpoints, until: int = 0) -> None:
        self.heard: list[int] = []
        torch.manual_seed(12345)  # another process has other numbers in its generators
        policy = tiny.new_policy(dropout=0.5)

        def report(step: int, _: dict[str, float]) -> None:
            self.heard.append(step)
            if step == until:
                raise Interrupted

        examples: Any = tiny_llama.prompts(30) if method == "ppo" else tiny_llama.pairs(12)
        settings = ppo_section(**PPO) if method == "ppo" else section(method, **SUPERVISED)
        kept = {"checkpoints": checkpoints, "report": report, "reward": reward_of()}
        try:
            self.curves = train(policy, method, examples, settings, **kept).curves
        except Interrupted:
            self.curves = []
        self.weights: list[Tensor] = [item.detach() for group in policy.trainable().values() for item in group]

    def is_as(self, other: "Trained") -> bool:
        """Return whether curves and weights have the same bits."""
        same = all(torch.equal(*pair) for pair in zip(self.weights, other.weights, strict=True))
        return same and bool(self.curves) and self.curves == other.curves


def kept(method: str, every: int = 1, code: str = "this") -> Checkpoints:
    return tiny_llama.checkpoints(method, every=every, code=code)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def whole(tiny: TinyModel, method: str, workplace: Any) -> Trained:
    """Return a training without checkpoints, on a task's reference."""
    tiny.write_task_reference()
    return Trained(tiny, method, kept(method, every=0))


def test_whenever_it_is_interrupted_the_bits_are_the_same(tiny, method, whole):
    """It is interrupted after every single update."""
    for at in range(1, UPDATES + 1):
        found = Trained(tiny, method, kept(method), until=at)
        assert found.heard == ([at - 1, at] if at > 1 else [1]), "only what was lost is done again"
    found = Trained(tiny, method, kept(method))
    assert found.heard == [UPDATES] and found.is_as(whole)


def test_a_training_that_only_had_to_be_saved_is_not_done_again(tiny, method, whole):
    assert Trained(tiny, method, kept(method, every=4)).heard == list(range(1, UPDATES + 1))
    again = Trained(tiny, method, kept(method, every=4))
    assert again.heard == [] and again.is_as(whole)


@pytest.mark.parametrize("spoilt", ["of other code", "cut"])
def test_a_checkpoint_that_is_of_something_else_or_damaged_is_not_continued(tiny, method, workplace, spoilt, caplog):
    Trained(tiny, method, kept(method), until=4)
    if spoilt == "cut":
        (file,) = kept(method).folder.rglob("state.safetensors")
        file.write_bytes(file.read_bytes()[:-1])
    else:
        kept(method).folder.rename(kept(method, code="that").folder)
    with caplog.at_level(logging.WARNING):
        found = Trained(tiny, method, kept(method))
    assert found.heard == list(range(1, UPDATES + 1))
    assert "not continued" in caplog.text


def test_one_checkpoint_is_kept_sealed_and_without_a_pickle(tiny, method, workplace):
    Trained(tiny, method, kept(method, every=2))
    (folder,) = kept(method).folder.iterdir()
    assert folder.name == f"step-{UPDATES:06d}"
    assert {path.name for path in folder.iterdir()} == {"seal.json", "state.json", "state.safetensors"}
