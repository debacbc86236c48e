"""A tiny random T5, laid out on disk as the download and reference stages do."""

from typing import Any

import torch
from torch import Tensor

from pipeline.policy.types import Completion
from tests.policy.tiny_model import END, HIDDEN, START, VOCABULARY, TinyModel, save_base

FLUENCY = {  # what an experiment with an encoder-decoder has to name; nothing here fetches it
    "kind": "causal_lm",
    "source": {"uri": "file:lm", "sha256": {"x": "0" * 64}},
    "dtype": "float32",
    "max_tokens": 64,
}


def write_base(end_bias: float = 0.0, stop_tokens: int | list[int] = END, **changes: Any) -> None:
    """Write the base model of the experiment `exp`; `end_bias` makes END likelier, everywhere about the same.

    As in the first T5, embeddings are also the output layer and what that reads is scaled down; dropout is not 0.
    """
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    settings = {
        "vocab_size": len(VOCABULARY),
        "d_model": HIDDEN,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.1,
        "decoder_start_token_id": START,  # another than the padding token, so that they cannot be mistaken
        "eos_token_id": END,
        "pad_token_id": END,
    }
    model = T5ForConditionalGeneration(T5Config(**(settings | changes)))
    with torch.no_grad():
        # One hidden feature is about the same everywhere, and END's logit listens to it more than others' do.
        model.shared.weight[:, 0] = 4.0
        model.shared.weight[END, 0] += end_bias
    save_base(model, stop_tokens)


@torch.no_grad()
def plain(model: Any, completion: Completion) -> tuple[Tensor, Tensor]:
    """Return logits and hidden states before every token; as labels the model itself shifts them behind its start."""
    output = model(
        input_ids=torch.tensor([completion.prompt.token_ids]),
        labels=torch.tensor([completion.token_ids]),
        output_hidden_states=True,
    )
    return output.logits[0], output.decoder_hidden_states[-1][0]


T5 = TinyModel(architecture="seq2seq", target_modules=("q", "v"), ending=10.0, write_base=write_base, plain=plain)
