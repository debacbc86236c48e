"""A tiny google/flan-t5-base: the files, keys and tensors of the true one (Transformers 4.23), in small sizes.

Its lm_head is no copy of the embeddings, it does not scale the decoder's output, and the model has embeddings for 28
more tokens than the tokenizer.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.sources.checkpoints.texts import everything

PIECES = 400
EXTRA = 100
UNUSED = 28  # 32128 - 32100
CONFIG: dict[str, Any] = {
    "architectures": ["T5ForConditionalGeneration"],
    "d_ff": 64,
    "d_kv": 16,
    "d_model": 32,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu",
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "num_layers": 2,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "task_specific_params": {"summarization": {"max_length": 200, "num_beams": 4, "prefix": "summarize: "}},
    "tie_word_embeddings": False,
    "transformers_version": "4.23.1",
    "use_cache": True,
}
GENERATION = {
    "_from_model_config": True,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "transformers_version": "4.27.0.dev0",
}
_EXTRA_TOKENS = [f"<extra_id_{number}>" for number in range(EXTRA)]
_SPECIAL = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
SPECIAL_TOKENS_MAP = {"additional_special_tokens": _EXTRA_TOKENS, **_SPECIAL}
TOKENIZER_CONFIG = {
    "additional_special_tokens": _EXTRA_TOKENS,
    "extra_ids": EXTRA,
    "model_max_length": 512,
    "name_or_path": "google/t5-v1_1-base",
    "sp_model_kwargs": {},
    "tokenizer_class": "T5Tokenizer",
    **_SPECIAL,
}


def write_flan_t5(folder: Path) -> None:
    """Write the whole repository; the same bytes at every call."""
    folder.mkdir(parents=True)
    sentencepiece = _sentencepiece()
    (folder / "spiece.model").write_bytes(sentencepiece)
    tokenizer = _tokenizer(sentencepiece)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=2), encoding="utf-8")
    vocabulary = len(tokenizer["model"]["vocab"])
    config = {**CONFIG, "vocab_size": vocabulary + UNUSED}
    files = {
        "config.json": config,
        "generation_config.json": GENERATION,
        "special_tokens_map.json": SPECIAL_TOKENS_MAP,
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    write_weights(folder, config)


def write_weights(folder: Path, config: dict[str, Any], embeddings: str = "shared.weight") -> None:
    """Write model.safetensors with random weights, the embeddings once, under one of their three names."""
    import torch
    from safetensors.torch import save_file
    from transformers import T5Config, T5ForConditionalGeneration

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = T5ForConditionalGeneration(T5Config(**config))
        # Wide enough that prompts differ in what they make likely, and no copy of the embeddings.
        head = torch.randn(config["vocab_size"], config["d_model"]) * 0.4
    tied = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if name not in tied}
    tensors |= {embeddings: model.shared.weight.detach().clone(), "lm_head.weight": head}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _sentencepiece() -> bytes:
    """Return a unigram model with T5's special pieces and normalization."""
    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in everything() for line in text.splitlines()),
        model_writer=model,
        model_type="unigram",
        vocab_size=PIECES,
        hard_vocab_limit=False,
        byte_fallback=False,
        normalization_rule_name="nmt_nfkc",
        num_threads=1,
        minloglevel=2,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
    )
    return model.getvalue()


def _tokenizer(sentencepiece: bytes) -> dict[str, Any]:
    """Return tokenizer.json as Transformers 4 made it of spiece.model: the extra ids stand at the end, downwards."""
    from base64 import b64encode

    from sentencepiece import sentencepiece_model_pb2

    held = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece)
    special = ["<pad>", "</s>", "<unk>"]
    vocabulary = [[piece.piece, 0.0 if piece.piece in special else piece.score] for piece in held.pieces]
    added = dict(enumerate(special)) | dict(enumerate(reversed(_EXTRA_TOKENS), start=len(vocabulary)))
    vocabulary += [[token, 0.0] for token in reversed(_EXTRA_TOKENS)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    metaspace = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
    end: dict[str, Any] = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": index, "content": token, **flags} for index, token in sorted(added.items())],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {
                    "type": "Precompiled",
                    "precompiled_charsmap": b64encode(held.normalizer_spec.precompiled_charsmap).decode(),
                }
            ],
        },
        "pre_tokenizer": metaspace,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, end],
            "pair": [first, end, second, end],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": metaspace,
        "model": {"type": "Unigram", "unk_id": 2, "vocab": vocabulary},
    }
