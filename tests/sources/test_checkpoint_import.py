"""A checkpoint folder made of downloaded files: a real (tiny) quantized GGUF, safetensors, and what is refused."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType

from pipeline.errors import UserError
from pipeline.sources.checkpoint import import_checkpoint
from tests.sources.wheels import tree

WIDTH, HIDDEN = 32, 64
TOKENS = ["<bos>", "<eos>", *"helow", "he", "ll"]
CONFIG = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


def write_gguf(path: Path) -> np.ndarray:
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


def write_files(folder: Path, **contents: object) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def test_a_gguf_becomes_float32_safetensors_with_its_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embedding = write_gguf(write_files(tmp_path / "files") / "tiny.gguf")
    import_checkpoint(tmp_path / "files", tmp_path / "base")

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert {str(weight.dtype) for weight in model.parameters()} == {"torch.float32"}
    assert not hasattr(model.config, "quantization_config")
    np.testing.assert_array_equal(model.get_input_embeddings().weight.detach().numpy(), embedding)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    tokens = tokenizer("hello").input_ids
    assert [TOKENS[token] for token in tokens] == ["he", "ll", "o"] and tokenizer.decode(tokens) == "hello"


def test_the_same_gguf_gives_the_same_bytes_wherever_it_lies(tmp_path: Path) -> None:
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
        write_gguf(write_files(tmp_path / place / "files") / "tiny.gguf")
        import_checkpoint(tmp_path / place / "files", tmp_path / place / "base")

    made = tree(tmp_path / "here" / "base")
    assert made == tree(tmp_path / "elsewhere" / "base")
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= made.keys()
    assert b"local_files_only" not in made["tokenizer_config.json"]  # how it was loaded, not what it is
    assert not any(str(tmp_path).encode() in content for content in made.values())


def test_safetensors_are_copied_as_they_are_and_pickles_are_left_out(tmp_path: Path) -> None:
    files = write_files(tmp_path / "files", config__json=CONFIG, model__safetensors=b"w", pytorch_model__bin=b"p")
    (files / "deep").mkdir()
    (files / "deep" / "vocab.txt").write_bytes(b"darn\n")
    before = tree(files)

    import_checkpoint(files, tmp_path / "base")

    assert tree(files) == before
    assert tree(tmp_path / "base") == {name: before[name] for name in before if name != "pytorch_model.bin"}


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"config__json": CONFIG, "pytorch_model__bin": b"p"}, "weights in pickles are never read"),
        ({"model__safetensors": b"w"}, "expected one .gguf, or config.json"),
        ({"a__gguf": b"GGUF", "b__gguf": b"GGUF"}, "expected one .gguf"),
        ({"broken__gguf": b"no such thing"}, "broken.gguf"),
        ({"config__json": {"model_type": "nosuch"}, "model__safetensors": b"w"}, "cannot read config.json"),
        (
            {
                "config__json": CONFIG,
                "model__safetensors": b"w",
                "model__safetensors__index__json": {
                    "weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}
                },
            },
            "needs model-2.safetensors",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_and_the_earlier_one_stays(
    contents: dict[str, object], said: str, tmp_path: Path
) -> None:
    write_files(tmp_path / "base", config__json=CONFIG)
    before = tree(tmp_path / "base")

    with pytest.raises(UserError, match=said) as caught:
        import_checkpoint(write_files(tmp_path / "files", **contents), tmp_path / "base")

    assert "\n" not in str(caught.value)
    assert tree(tmp_path / "base") == before
    assert {path.name for path in tmp_path.iterdir()} == {"base", "files"}


def test_code_that_a_checkpoint_brings_is_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    code = f"open({str(marker)!r}, 'w')\nclass OwnConfig: pass\n".encode()

    with pytest.raises(UserError, match="cannot read config.json"):
        files = write_files(tmp_path / "files", config__json=config, model__safetensors=b"w", own__py=code)
        import_checkpoint(files, tmp_path / "base")

    assert not marker.exists() and not (tmp_path / "base").exists()
