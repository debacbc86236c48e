"""Our own preference training that is interrupted after any update ends with the bits of one that was not."""

from typing import Any

import pytest
import torch
from pipeline.methods.dpo.fit import fit

from pipeline.methods.loop.checkpoints import Checkpoints
from tests.policy import tiny_llama
from tests.policy.tiny_model import section
from tests.policy.tiny_t5 import T5

UPDATES = 6
PARTS = {"code": "this"}

pytestmark = pytest.mark.usefixtures("t5_workplace")


class Interrupted(Exception):
    """The power is gone."""


def train(policy: Any, checkpoints: Checkpoints, at: int = 0, heard: list[int] | None = None) -> Any:
    """Train three epochs of two updates, each of two micro-batches; end it when update `at` is heard of."""

    def report(step: int, _: dict[str, float]) -> None:
        if step == at:
            raise Interrupted
        (heard if heard is not None else []).append(step)

    settings = section("dpo", learning_rate=1e-2, epochs=3, batch_size=4, gradient_accumulation=2, weight_decay=0.1)
    pairs = tiny_llama.pairs(12)
    return fit("seq2seq", policy, policy.model, policy.tokenizer, pairs, settings, 0, checkpoints, report)


def checkpoints(every: int = 1, **parts: str) -> Checkpoints:
    return tiny_llama.checkpoints("dpo", every=every, **(parts or PARTS))


def weights(policy: Any) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in policy.trainable()["adapter"]]


@pytest.fixture
def undisturbed() -> tuple[Any, list[torch.Tensor]]:
    """Return what a training without checkpoints tells, and its weights."""
    policy = T5.new_policy()
    return train(policy, checkpoints(every=0)), weights(policy)


@pytest.mark.parametrize(("reference", "ends"), [("adapter off", (2, 5, 6)), ("reference adapter on", (4,))])
def test_whenever_it_is_interrupted_the_bits_are_the_same(reference, ends):
    if reference == "reference adapter on":
        T5.write_task_reference()
    whole = T5.new_policy()
    expected = train(whole, checkpoints(every=0))
    for at in ends:
        found = checkpoints(at=str(at))
        with pytest.raises(Interrupted):
            train(T5.new_policy(), found, at)
        heard: list[int] = []
        torch.manual_seed(12345)  # another process has other numbers in its generators
        policy = T5.new_policy()
        assert train(policy, checkpoints(at=str(at)), heard=heard) == expected
        assert heard == list(range(at, UPDATES + 1)), "only what was lost is done again"
        assert all(torch.equal(*pair) for pair in zip(weights(policy), weights(whole), strict=True))


def test_a_training_that_only_had_to_be_saved_is_not_done_again(undisturbed):
    for _ in range(2):
        heard: list[int] = []
        policy = T5.new_policy()
        assert train(policy, checkpoints(every=4), heard=heard) == undisturbed[0]
    assert heard == []
    assert all(torch.equal(*pair) for pair in zip(weights(policy), undisturbed[1], strict=True))


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_not_continued(undisturbed, damage):
    with pytest.raises(Interrupted):
        train(T5.new_policy(), checkpoints(), at=4)
    (file,) = checkpoints().folder.rglob("state.safetensors")
    file.unlink() if damage == "gone" else file.write_bytes(file.read_bytes()[:-1])
    heard: list[int] = []
    assert train(T5.new_policy(), checkpoints(), heard=heard) == undisturbed[0]
    assert heard == list(range(1, UPDATES + 1))


def test_a_checkpoint_is_sealed_and_holds_no_pickle():
    train(T5.new_policy(), checkpoints(every=2))
    (folder,) = checkpoints().folder.iterdir()
    assert folder.name == f"step-{UPDATES:06d}"
    assert {path.name for path in folder.iterdir()} == {"seal.json", "state.json", "state.safetensors"}
