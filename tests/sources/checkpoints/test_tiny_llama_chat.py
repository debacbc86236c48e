"""TinyLlama's layout, in tiny sizes, through what reads it here."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.fields import Source
from pipeline.config.sections import ModelSection
from pipeline.io import paths
from pipeline.io.hashing import file_digest
from pipeline.policy import loading
from pipeline.policy.prompts import prompt_ids
from pipeline.sources.importing import import_checkpoint
from tests.sources.checkpoints import tiny_llama_chat

EXPERIMENT = "layouts"
MODEL = ModelSection(
    source=Source(uri="hub:TinyLlama/TinyLlama-1.1B-Chat-v1.0@" + "0" * 40, sha256={}),
    build=None,
    architecture="causal",
    dtype="bfloat16",
    quantization=None,
    gradient_checkpointing=False,
    prompt_format="chat_template",
    max_prompt_tokens=512,
)
TEXTS = ["You are a silly person.", "42 jars of honey", "\u00e9t\u00e9", "Two\nlines", "of the market"]


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the repository; change nothing."""
    folder = tmp_path_factory.mktemp("true") / "tiny_llama"
    tiny_llama_chat.write_tiny_llama(folder)
    return folder


@pytest.fixture
def held(true: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the files that the experiment names, put where `download` puts them."""
    monkeypatch.chdir(tmp_path)
    ignored = shutil.ignore_patterns("README.md", "tokenizer.model")
    files = Path(shutil.copytree(true, tmp_path / "files", ignore=ignored))
    import_checkpoint(files, paths.base_model(EXPERIMENT))
    return files


def test_weights_are_those_of_the_file_in_its_own_precision(held: Path) -> None:
    from safetensors.torch import load_file

    file, model = load_file(held / "model.safetensors"), loading.load_base(EXPERIMENT, MODEL)
    assert {tensor.dtype for tensor in file.values()} == {torch.bfloat16}
    found = model.state_dict()
    assert found.keys() == file.keys() and all(torch.equal(found[name].cpu(), file[name]) for name in file)
    assert not torch.equal(file["lm_head.weight"], file["model.embed_tokens.weight"])


@pytest.mark.parametrize("text", TEXTS)
def test_plain_text_becomes_the_pieces_of_sentencepiece(true: Path, held: Path, text: str) -> None:
    import sentencepiece

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(true / "tokenizer.model"))
    assert list(prompt_ids(text, loading.load_tokenizer(EXPERIMENT), "plain")) == [1, *pieces.encode(text)]


def test_a_message_stands_in_the_template_and_its_turn_ends(held: Path) -> None:
    tokenizer = loading.load_tokenizer(EXPERIMENT)
    ids = list(prompt_ids("You are kind.", tokenizer, "chat_template"))
    assert tokenizer.decode(ids) == "<|user|>\nYou are kind.</s>\n<|assistant|>\n"
    assert ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.eos_token_id == tokenizer.pad_token_id == 2


def test_they_are_the_same_bytes_every_time(true: Path, tmp_path: Path) -> None:
    """What a test pins once, it may make again."""
    tiny_llama_chat.write_tiny_llama(tmp_path / "again")
    files = {path.name: file_digest(path) for path in true.iterdir()}
    assert {path.name: file_digest(path) for path in (tmp_path / "again").iterdir()} == files


def test_the_experiment_names_files_that_the_repository_has(true: Path) -> None:
    import yaml

    root = Path(__file__).resolve().parents[3]
    file: Any = yaml.safe_load((root / "experiments" / "tinyllama-toxic-dpo.yaml").read_text(encoding="utf-8"))
    assert file["model"]["source"]["sha256"].keys() <= {path.name for path in true.iterdir()}
    config = json.loads((true / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"] and config["num_key_value_heads"] < 8
