"""Activations that are computed again: the same gradients from less memory, and sampling that sees nothing of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.sections import FullReference
from pipeline.methods.sft.trainer import train_on
from pipeline.policy import loading
from pipeline.policy.types import Decoding
from pipeline.preferences.pairs import chosen
from tests.methods.trainings import train, training_of
from tests.policy import tiny_llama, tiny_model
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, SEED, TinyModel, section
from tests.policy.tiny_t5 import T5

ONE_UPDATE = {"epochs": 1, "batch_size": 4, "gradient_accumulation": 2}


@pytest.fixture(params=[LLAMA, T5], ids=lambda tiny: tiny.architecture)
def tiny(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyModel:
    """Write the base of one architecture, then of the other."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    tiny: TinyModel = request.param
    tiny.write_base()
    return tiny


def policy_of(tiny: TinyModel, recomputes: bool) -> Any:
    """Return a policy whose adapter changes it, the same whether or not it recomputes."""
    settings = section("model", architecture=tiny.architecture, gradient_checkpointing=recomputes)
    policy = tiny.policy_of(loading.new_policy_model(NAME, SEED, settings, tiny.lora()))
    torch.manual_seed(3)
    tiny_model.perturb(policy.model, 0.2)
    return policy


def gradients(policy: Any) -> list[torch.Tensor]:
    return [item.grad.clone() for item in policy.model.parameters() if item.requires_grad]


def kept_bytes(action: Callable[[], Any]) -> int:
    """Return the bytes of all different tensors that a forward pass keeps for its backward pass."""
    seen: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = action()
    assert kept is not None
    return sum(seen.values())


def test_gradients_of_the_policy_are_the_very_same(tiny: TinyModel) -> None:
    found = []
    for recomputes in (False, True):
        policy = policy_of(tiny, recomputes)
        policy.model.eval()
        policy.analyze(tiny_model.completions(6)).logprobs.sum().backward()
        found.append(gradients(policy))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert any(item.abs().max() > 0 for item in found[0])


def test_less_is_kept_for_the_backward_pass(tiny: TinyModel) -> None:
    completions = tiny_model.completions(16)
    kept = {}
    for recomputes in (False, True):
        policy = policy_of(tiny, recomputes)
        policy.model.eval()
        weights = sum(item.untyped_storage().nbytes() for item in policy.model.parameters())
        kept[recomputes] = kept_bytes(lambda policy=policy: policy.analyze(completions)) - weights
    assert kept[True] < 0.6 * kept[False]


def test_what_is_sampled_and_how_it_is_read_stays_as_it_was(tiny: TinyModel) -> None:
    found = []
    decoding = Decoding(max_new_tokens=8, temperature=1.0, top_p=1.0)
    for recomputes in (False, True):
        policy = policy_of(tiny, recomputes)
        policy.model.eval()
        drawn = policy.complete(tiny_model.prompts(5), decoding, samples=2, seed=0, batch_size=10)
        policy.analyze(drawn).logprobs.sum().backward()  # leaves nothing behind
        again = policy.complete(tiny_model.prompts(5), decoding, samples=2, seed=0, batch_size=10)
        assert drawn == again
        found.append(drawn)
    assert found[0] == found[1]


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_trainings_keep_less_and_end_as_they_would(method: str, tiny: TinyModel) -> None:
    kept, curves, weights = [], [], []
    for recomputes in (False, True):
        policy, total = policy_of(tiny, recomputes), [0]

        def count(tensor: torch.Tensor, total: list[int] = total) -> torch.Tensor:
            total[0] += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            curves += train(policy, method, tiny_llama.pairs(8), section(method, **ONE_UPDATE)).curves
        kept.append(total[0])
        weights.append([item.clone() for item in policy.model.parameters()])
    assert 0 < kept[1] < 0.6 * kept[0]
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_a_reference_whose_weights_are_all_trained_recomputes_too(tiny: TinyModel) -> None:
    values = section("sft", **ONE_UPDATE).model_dump()
    full = {"kind": "full", "max_demonstration_tokens": 16, "require": {"rouge_l": None, "toxicity_mean": None}}
    reference = FullReference.model_validate(values | full)
    kept, curves = [], []
    for recomputes in (False, True):
        settings = section("model", architecture=tiny.architecture, gradient_checkpointing=recomputes)
        policy, given = (
            tiny.policy_of(loading.new_reference_model(NAME, SEED, settings, reference)),
            tiny_llama.pairs(8),
        )
        trained: list[Any] = []
        learn = partial(train_on, training_of(policy, "reference"), reference, chosen(given))
        kept.append(kept_bytes(lambda learn=learn, trained=trained: trained.append(learn()) or trained))
        curves += trained[0].curves
    assert kept[1] < kept[0] and curves[0] == pytest.approx(curves[1], abs=1e-4)
