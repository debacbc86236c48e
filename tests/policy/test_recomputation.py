"""Activations that are computed again: the same gradients from less memory, and sampling that sees nothing of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline.methods.dpo.fit import fit as fit_dpo
from pipeline.methods.sft.fit import fit as fit_sft

from pipeline.config.sections import FullReference
from pipeline.policy import loading, recomputation
from pipeline.policy.types import Decoding
from pipeline.preferences.pairs import chosen
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


def test_trainers_keep_less_too(tiny: TinyModel) -> None:
    kept = {}
    for recomputes in (False, True):
        policy, total = policy_of(tiny, recomputes), [0]

        def count(tensor: torch.Tensor, total: list[int] = total) -> torch.Tensor:
            total[0] += tensor.nbytes
            return tensor

        rest = (section("sft", **ONE_UPDATE), 0, tiny_llama.checkpoints(), lambda *_: None)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            fit_sft(tiny.architecture, policy.model, policy.tokenizer, chosen(tiny_llama.pairs(8)), *rest)
        kept[recomputes] = total[0]
    assert 0 < kept[True] < 0.6 * kept[False]


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_trainings_end_with_the_same_weights(method: str, tiny: TinyModel) -> None:
    found, on = [], []
    pairs = tiny_llama.pairs(8)
    for recomputes in (False, True):
        policy = policy_of(tiny, recomputes)
        on.append(recomputation.is_on(policy.model.get_base_model()))
        rest = (section(method, **ONE_UPDATE), 0, tiny_llama.checkpoints(method), lambda *_: None)
        if method == "sft":
            rows = fit_sft(tiny.architecture, policy.model, policy.tokenizer, chosen(pairs), *rest)
        else:
            rows = fit_dpo(tiny.architecture, policy, policy.model, policy.tokenizer, pairs, *rest)
        found.append((rows, [item.clone() for item in policy.model.parameters()]))
    assert on == [False, True]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(one, other) for one, other in zip(found[0][1], found[1][1], strict=True))


def test_a_reference_whose_weights_are_all_trained_recomputes_too(tiny: TinyModel) -> None:
    settings = section("model", architecture=tiny.architecture, gradient_checkpointing=True)
    values = section("sft", **ONE_UPDATE).model_dump()
    full = {"kind": "full", "max_demonstration_tokens": 16, "require": {"rouge_l": None, "toxicity_mean": None}}
    reference = FullReference.model_validate(values | full)
    model = loading.new_reference_model(NAME, SEED, settings, reference)
    rows = fit_sft(
        tiny.architecture,
        model,
        loading.load_tokenizer(NAME),
        chosen(tiny_llama.pairs(8)),
        reference,
        0,
        tiny_llama.checkpoints(),
        lambda *_: None,
    )
    assert recomputation.is_on(model) and rows[-1]["policy/grad_norm"] > 0
