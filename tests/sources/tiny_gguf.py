"""A one-layer Llama as GGUF: real, quantized, of a few kilobytes."""

from pathlib import Path

import gguf
import numpy as np
from gguf.constants import GGMLQuantizationType

WIDTH, HIDDEN = 32, 64
TOKENS = ["<bos>", "<eos>", *"helow", "he", "ll"]


def write_gguf(path: Path, chat_template: str | None = None) -> np.ndarray:
    """Write a one-layer Llama quantized to Q8_0 and return its embedding as the quantization left it."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3] + [1] * (len(TOKENS) - 2))  # 3: control token
    writer.add_token_merges(["h e", "l l"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    square, narrow = (WIDTH, WIDTH), (WIDTH // 2, WIDTH)
    shapes = {"attn_q": square, "attn_k": narrow, "attn_v": narrow, "attn_output": square}
    shapes |= {"ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
    shapes = {"token_embd": (len(TOKENS), WIDTH), **{f"blk.0.{name}": shape for name, shape in shapes.items()}}
    random = np.random.default_rng(0)
    packed = {}
    for name, shape in shapes.items():
        packed[name] = gguf.quants.quantize(random.normal(size=shape).astype(np.float32), GGMLQuantizationType.Q8_0)
        writer.add_tensor(f"{name}.weight", packed[name], raw_dtype=GGMLQuantizationType.Q8_0)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf.quants.dequantize(packed["token_embd"], GGMLQuantizationType.Q8_0)
