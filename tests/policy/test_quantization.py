"""Base weights in 4 bits: refused where they cannot be had, and what is and is not quantized where they can."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.policy import loading, quantization
from pipeline.policy.adapters import merged
from tests.policy import tiny_model
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import END, NAME, ROOT, SEED, START, VOCABULARY, section

NF4 = {"quantization": "nf4"}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a base that is as wide as a block of nf4, whose kernels do not take less."""
    from transformers import LlamaConfig, LlamaForCausalLM

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    torch.manual_seed(0)
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": START, "eos_token_id": END, "pad_token_id": END}
    config = LlamaConfig(vocab_size=len(VOCABULARY), max_position_embeddings=64, initializer_range=0.2, **sizes, **ends)
    tiny_model.save_base(LlamaForCausalLM(config), END)


def test_without_cuda_it_is_refused_with_a_remedy() -> None:
    with pytest.raises(UserError, match=r"model\.quantization: nf4 needs CUDA.*null"):
        loading.load_base(NAME, section("model", **NF4))


def test_another_version_of_the_library_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, told in ((None, "which is not here"), ("0.1.2", "which is 0.1.2 here")):
        monkeypatch.setattr(quantization, "_installed", lambda found=found: found)
        with pytest.raises(UserError, match=rf"model\.quantization.*{told}.*pip install bitsandbytes=={pinned()}"):
            quantization.loading(torch.float32, torch.device("cuda"))


def test_the_version_is_that_of_the_requirements() -> None:
    assert quantization.VERSION == pinned()


def pinned() -> str:
    text = (ROOT / quantization.REQUIREMENTS).read_text(encoding="utf-8")
    found = re.search(rf"^{quantization.PACKAGE}==(.*)$", text, flags=re.MULTILINE)
    assert found is not None
    return found[1]


# With the library: its CPU kernels load and read, which is enough to see what models.py makes of it.


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the CPU pass for a device that has nf4."""
    pytest.importorskip("bitsandbytes", reason=f"pip install --requirement {quantization.REQUIREMENTS}")
    monkeypatch.setattr(quantization, "DEVICES", ("cpu", "cuda"))
    return section("model", **NF4)


def test_linear_layers_alone_are_quantized_and_adapters_learn_in_float32(on_cpu: Any) -> None:
    model = loading.new_policy_model(NAME, SEED, on_cpu, LLAMA.lora())
    kinds = {name: parameter.dtype for name, parameter in model.named_parameters()}
    quantized = {name for name, dtype in kinds.items() if dtype == torch.uint8}
    assert len(quantized) == 2 * 7
    assert all("layers." in name and "lora" not in name and "norm" not in name for name in quantized)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert learning and all(parameter.dtype == torch.float32 for parameter in learning)


def test_a_quantized_base_is_close_to_the_base(on_cpu: Any) -> None:
    completions = tiny_model.completions(6)
    found = {}
    for name, settings in (("whole", section("model")), ("nf4", on_cpu)):
        policy = LLAMA.policy_of(loading.load_base(NAME, settings))
        with torch.no_grad():
            found[name] = policy.analyze(completions).logprobs
    assert not torch.equal(found["whole"], found["nf4"])
    correlated = torch.corrcoef(torch.stack([item.flatten() for item in found.values()]))[0, 1]
    assert correlated > 0.9


def test_no_adapter_is_folded_into_four_bits(on_cpu: Any) -> None:
    model = loading.new_policy_model(NAME, SEED, on_cpu, LLAMA.lora())
    before = {name: item.clone() for name, item in model.state_dict().items()}
    with merged(model):
        assert all(torch.equal(before[name], item) for name, item in model.state_dict().items())


def test_weights_that_are_no_numbers_are_told_although_four_bits_hide_them(on_cpu: Any) -> None:
    from safetensors.torch import load_file, save_file

    path = paths.base_model(NAME) / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"NaN or infinity in model\.layers\.1\.mlp\.up_proj\.weight"):
        loading.load_base(NAME, on_cpu)
