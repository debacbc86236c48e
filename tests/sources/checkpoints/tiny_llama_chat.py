"""A tiny TinyLlama/TinyLlama-1.1B-Chat-v1.0: the files, keys and tensors of the true one (Transformers 4.35), small.

Its tokenizer is Llama's (pieces of sentencepiece, bytes for what they lack, a blank before the text, <s> at its start),
its output layer is no copy of the embeddings, its padding token is </s> but 0 in generation_config.json, and its chat
template ends every turn with </s>.
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

from tests.sources.checkpoints.texts import everything

PIECES = 600
SPECIAL = ("<unk>", "<s>", "</s>")  # 0, 1 and 2
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 96,
    "max_position_embeddings": 2048,
    "model_type": "llama",
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.35.0",
    "use_cache": True,
}
GENERATION = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "max_length": 2048,
    "pad_token_id": 0,
    "transformers_version": "4.35.0",
}
_TURN = "{{% {word} message['role'] == '{role}' %}}\n{{{{ '<|{role}|>\n' + message['content'] + eos_token }}}}\n"
TEMPLATE = (
    "{% for message in messages %}\n"
    + _TURN.format(word="if", role="user")
    + _TURN.format(word="elif", role="system")
    + _TURN.format(word="elif", role="assistant")
    + "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
_FLAGS = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
_NAMES = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
SPECIAL_TOKENS_MAP = {name: {"content": token, **_FLAGS} for name, token in _NAMES.items()}
TOKENIZER_CONFIG = {
    "added_tokens_decoder": {
        str(index): {"content": token, **_FLAGS, "special": True} for index, token in enumerate(SPECIAL)
    },
    "chat_template": TEMPLATE,
    "clean_up_tokenization_spaces": False,
    "legacy": False,
    "model_max_length": 2048,
    "padding_side": "right",
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
    "use_default_system_prompt": False,
    **_NAMES,
}
_BLANK = "\u2581"  # how sentencepiece writes it


def write_tiny_llama(folder: Path) -> None:
    """Write the whole repository; the same bytes at every call."""
    folder.mkdir(parents=True)
    sentencepiece = _sentencepiece()
    (folder / "tokenizer.model").write_bytes(sentencepiece)
    tokenizer = _tokenizer(sentencepiece)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=2), encoding="utf-8")
    config = CONFIG | {"vocab_size": len(tokenizer["model"]["vocab"])}
    files = {
        "config.json": config,
        "generation_config.json": GENERATION,
        "special_tokens_map.json": SPECIAL_TOKENS_MAP,
        "tokenizer_config.json": TOKENIZER_CONFIG,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")
    _write_weights(folder, config)


def _write_weights(folder: Path, config: dict[str, Any]) -> None:
    """Write model.safetensors in bfloat16, spread so wide that prompts differ in what they make likely."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(**(config | {"initializer_range": 0.2})))
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _sentencepiece() -> bytes:
    """Return a BPE model with Llama's special pieces, bytes and lack of normalization."""
    import sentencepiece

    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(line for text in everything() for line in text.splitlines()),
        model_writer=model,
        model_type="bpe",
        vocab_size=PIECES,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _tokenizer(sentencepiece: bytes) -> dict[str, Any]:
    """Return tokenizer.json as Transformers 4 made it of tokenizer.model."""
    from sentencepiece import sentencepiece_model_pb2

    pieces = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece).pieces
    vocabulary = {piece.piece: index for index, piece in enumerate(pieces)}
    start: dict[str, Any] = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    first = {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": "<s>", "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    blank = {"pattern": {"String": " "}, "content": _BLANK}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": token, **_FLAGS, "special": True} for index, token in enumerate(SPECIAL)
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": _BLANK}, {"type": "Replace", **blank}],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, first],
            "pair": [start, first, *second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": _BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": vocabulary,
            "merges": _merges(vocabulary),
        },
    }


def _merges(vocabulary: dict[str, int]) -> list[str]:
    """Return the merges that make the pieces, in the order of the pieces: sentencepiece keeps no list of its own."""
    merges = []
    for piece in sorted(vocabulary, key=vocabulary.__getitem__):
        halves = [(piece[:place], piece[place:]) for place in range(1, len(piece))]
        known = [half for half in halves if half[0] in vocabulary and half[1] in vocabulary]
        known.sort(key=lambda half: (vocabulary[half[0]], vocabulary[half[1]]))
        merges += [" ".join(half) for half in known]
    return merges
