"""A model whose logits are not those of its output layer is refused before anything is computed from them."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from pipeline.io.errors import UserError
from pipeline.policy.making import make_policy
from tests.policy import tiny_llama


def gemma(cap):
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "head_dim": 8,
        "initializer_range": 0.5,
    }
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    vocabulary = len(tiny_llama.VOCABULARY)
    model = Gemma2ForCausalLM(Gemma2Config(vocab_size=vocabulary, final_logit_softcapping=cap, **sizes, **heads))
    return make_policy("causal", model.eval().requires_grad_(False), tiny_llama.tokenizer())


@pytest.mark.parametrize("cap", [1.0, 30.0])
def test_soft_capped_logits_are_refused(cap):
    with pytest.raises(UserError, match="model.source: Gemma2ForCausalLM changes its logits after the output layer"):
        gemma(cap)


def test_the_same_model_without_capping_is_a_policy():
    assert not gemma(cap=None).adapters
