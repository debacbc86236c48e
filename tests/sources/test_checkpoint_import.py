"""A checkpoint folder made of downloaded files: a real (tiny) quantized GGUF, safetensors, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.io.errors import UserError
from pipeline.policy.prompts import prompt_ids
from pipeline.sources.importing import import_checkpoint
from tests.smoke.checkpoint import write_checkpoint
from tests.sources.tiny_gguf import TOKENS, write_gguf
from tests.sources.wheels import tree

CONFIG = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


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


def test_the_chat_template_of_a_gguf_goes_into_the_checkpoint(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    template = "{{ messages[0]['content'] }}{% if add_generation_prompt %}{{ eos_token }}{% endif %}"
    write_gguf(write_files(tmp_path / "files") / "tiny.gguf", template)
    import_checkpoint(tmp_path / "files", tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert tokenizer.chat_template == template
    ids = prompt_ids("hello", tokenizer, "chat_template")
    assert [TOKENS[token] for token in ids] == ["he", "ll", "o", "<eos>"]


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


def test_safetensors_are_copied_as_they_are_and_pickles_and_code_are_left_out(tmp_path: Path) -> None:
    files = tmp_path / "files"
    write_checkpoint(files)
    (files / "deep").mkdir()
    (files / "deep" / "vocab.txt").write_bytes(b"darn\n")
    kept = tree(files)
    (files / "pytorch_model.bin").write_bytes(b"p")
    (files / "own.py").write_bytes(b"raise SystemExit\n")
    before = tree(files)

    import_checkpoint(files, tmp_path / "base")

    assert tree(files) == before
    assert tree(tmp_path / "base") == kept


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"config__json": CONFIG, "pytorch_model__bin": b"p"}, "weights in pickles are never read"),
        ({"model__safetensors": b"w"}, "expected one .gguf, or config.json"),
        ({"a__gguf": b"GGUF", "b__gguf": b"GGUF"}, "expected one .gguf"),
        ({"broken__gguf": b"no such thing"}, "broken.gguf"),
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
