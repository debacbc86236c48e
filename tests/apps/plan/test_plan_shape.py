"""What the estimate counts of a model is what is there: parameters, LoRA, bytes kept for the backward pass, cache."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from pipeline.apps.plan.shape import Shape, shape_of
from pipeline.policy.loading import lora_config
from tests.policy.tiny_model import section

LLAMA = LlamaConfig(
    vocab_size=300,
    hidden_size=192,
    intermediate_size=512,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    tie_word_embeddings=True,
)
T5 = T5Config(
    vocab_size=300,
    d_model=128,
    d_kv=32,
    d_ff=256,
    num_layers=2,
    num_decoder_layers=3,
    num_heads=4,
    feed_forward_proj="gated-gelu",
    dropout_rate=0.0,
)
MODELS: dict[str, tuple[Any, Any, tuple[str, ...]]] = {
    "causal": (LLAMA, LlamaForCausalLM, ("q_proj", "v_proj", "down_proj")),
    "seq2seq": (T5, T5ForConditionalGeneration, ("q", "v", "wo")),
}
ROWS, TOKENS = 4, 24


@pytest.fixture(params=sorted(MODELS))
def both(request: pytest.FixtureRequest) -> tuple[Shape, Any, Any]:
    """Return the shape of a model, the model itself with a LoRA adapter, and the LoRA section."""
    from peft import get_peft_model

    config, kind, targets = MODELS[request.param]
    settings = section("model", architecture=request.param)
    lora = section("lora", r=8, target_modules=list(targets))
    torch.manual_seed(0)
    model = kind(config).eval().requires_grad_(False)
    shape = shape_of(config, settings)
    assert shape.parameters == sum(item.numel() for item in model.parameters())
    return shape, get_peft_model(model, lora_config(settings, lora)), lora


def batch(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.randint(3, 300, (ROWS, TOKENS))
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if hasattr(model, "encoder") else {})


def test_the_adapter_is_counted(both: tuple[Shape, Any, Any]) -> None:
    shape, model, lora = both
    assert shape.trainable(lora) == sum(item.numel() for item in model.parameters() if item.requires_grad)


def test_what_the_backward_pass_keeps_is_counted_within_a_fifth(both: tuple[Shape, Any, Any]) -> None:
    shape, model, _ = both
    own = model.get_base_model()
    kept = kept_bytes(lambda: trunk(own), {item.untyped_storage().data_ptr() for item in model.parameters()})
    assert kept == pytest.approx(shape.kept(recomputes=False) * ROWS * TOKENS, rel=0.2)


def test_recomputing_keeps_less(both: tuple[Shape, Any, Any]) -> None:
    shape = both[0]
    assert 0 < shape.kept(recomputes=True) < shape.kept(recomputes=False)


def test_keys_and_values_of_a_token_are_counted(both: tuple[Shape, Any, Any]) -> None:
    shape, model, _ = both
    with torch.no_grad():
        cache = model(**batch(model.get_base_model()), use_cache=True).past_key_values
    own = getattr(cache, "self_attention_cache", cache)
    assert sum(layer.keys.numel() + layer.values.numel() for layer in own.layers) == shape.cached * ROWS * TOKENS


def test_four_bits_and_half_precision_shrink_the_weights() -> None:
    sizes = [
        shape_of(LLAMA, section("model", **changes)).weights
        for changes in ({}, {"dtype": "bfloat16"}, {"dtype": "bfloat16", "quantization": "nf4"})
    ]
    assert sizes[1] == sizes[0] / 2 and sizes[2] < 0.6 * sizes[1]


def trunk(model: Any) -> Any:
    """Read a batch without the output layer."""
    given = batch(model)
    if "decoder_input_ids" not in given:
        return model.get_decoder()(**given, use_cache=False)
    states = model.get_encoder()(input_ids=given["input_ids"]).last_hidden_state
    return model.get_decoder()(given["decoder_input_ids"], encoder_hidden_states=states, use_cache=False)


def kept_bytes(action: Callable[[], Any], weights: set[int]) -> int:
    """Return the bytes of all different tensors that a pass keeps beside the weights."""
    seen: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = action()
    assert output is not None
    return sum(tensor.untyped_storage().nbytes() for place, tensor in seen.items() if place not in weights)
