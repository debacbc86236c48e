"""An adapter of ours is taken back for every kind of model that it can be trained on."""

from typing import Any

import pytest
import torch

from pipeline.io import paths
from pipeline.policy import loading
from tests.policy import tiny_llama

SMALL = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def gpt2() -> Any:
    """Return a model whose matrices are the other way round."""
    from transformers import GPT2Config, GPT2LMHeadModel

    size = {"n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, bos_token_id=0, eos_token_id=0, **size))


def neox() -> Any:
    """Return a model with one matrix for query, key and value, and rotary embeddings."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, intermediate_size=32))


def qwen() -> Any:
    """Return a model in bfloat16 whose embedding is its output layer, in several files."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**SMALL, num_key_value_heads=1, intermediate_size=32, tie_word_embeddings=True)
    return Qwen2ForCausalLM(config).to(torch.bfloat16)


def t5() -> Any:
    """Return an encoder-decoder model."""
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2))


@pytest.mark.parametrize(
    ("make", "targets", "architecture"),
    [
        (gpt2, ["c_attn", "c_proj"], "causal"),
        (neox, ["query_key_value"], "causal"),
        (qwen, ["q_proj", "lm_head"], "causal"),
        (t5, ["q", "v"], "seq2seq"),
    ],
    ids=["gpt2", "neox", "qwen", "t5"],
)
def test_what_is_saved_is_loaded_again(make: Any, targets: list[str], architecture: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")
    make().save_pretrained(paths.base_model("exp"), max_shard_size="8KB")
    loading.write_reference_manifest("exp", 0, "base")
    section = tiny_llama.section("model", architecture=architecture)
    lora = tiny_llama.section("lora", r=2, alpha=4, target_modules=targets)
    trained = loading.new_policy_model("exp", 0, section, lora)
    tiny_llama.perturb(trained)
    loading.save_adapter(trained, "exp", 0, "sft")
    loaded = loading.load_policy_model("exp", 0, section, "sft")
    learned = {name: value for name, value in trained.state_dict().items() if "lora_" in name}
    found = loaded.state_dict()
    assert learned and all(torch.equal(value, found[name]) for name, value in learned.items())
