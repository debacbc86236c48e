"""A T5 built from its configuration: its files, its tokenizer, and what its bytes depend on."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pipeline.config.sections import T5Build
from pipeline.io.errors import UserError
from pipeline.sources.built_model import build_t5
from tests.sources.wheels import tree

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("silly", "goose", "river", "walks", "it's", "house,", "tree", "café", "moon", "the")
BUILD = T5Build(
    vocab_size=60,
    d_model=16,
    d_kv=8,
    d_ff=24,
    num_layers=2,
    num_decoder_layers=1,
    num_heads=3,
    feed_forward_proj="gated-gelu",
    dropout_rate=0.0,
    seed=0,
)


def sentences(count: int = 200) -> list[str]:
    draw = random.Random(0)
    return [" ".join(draw.choices(WORDS, k=6)) + "." for _ in range(count)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "base"
    build_t5(BUILD, sentences(), folder)
    return folder


def test_the_files_are_those_of_a_t5(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((built / "config.json").read_text())
    assert config["architectures"] == ["T5ForConditionalGeneration"] and config["model_type"] == "t5"
    assert {key: config[key] for key in BUILD.model_dump(exclude={"seed"})} == BUILD.model_dump(exclude={"seed"})
    for file in ("config.json", "generation_config.json"):
        values = json.loads((built / file).read_text())
        assert [values[key] for key in ("pad_token_id", "eos_token_id", "decoder_start_token_id")] == [0, 1, 0], file


def test_transformers_loads_it_whole_and_it_answers(built: Path) -> None:
    model, told = AutoModelForSeq2SeqLM.from_pretrained(built, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = AutoTokenizer.from_pretrained(built)
    with torch.no_grad():
        output = model.generate(
            **tokenizer(["the silly goose"], return_tensors="pt"), max_new_tokens=3, do_sample=False
        )
    assert output[0, 0] == 0 and output.shape[1] <= 4, "it starts from the padding token, as T5 does"


def test_a_text_comes_back_from_its_tokens_and_ends_with_eos(built: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built)
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    for text in ("the silly goose walks.", "it's café, moon.", "goose"):
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == 1 and ids.count(1) == 1 and 2 not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer("goose", add_special_tokens=False)["input_ids"] == tokenizer("goose")["input_ids"][:-1]


def test_punctuation_is_no_part_of_a_word(built: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(built)
    plain, marked = tokenizer("goose")["input_ids"], tokenizer("goose.")["input_ids"]
    assert marked[:-2] == plain[:-1]


def test_what_it_never_read_is_unknown(built: Path) -> None:
    assert 2 in AutoTokenizer.from_pretrained(built)("goose Ω")["input_ids"]


def test_the_bytes_depend_on_seed_and_texts_alone(built: Path, tmp_path: Path) -> None:
    """Another process, whose hashes are salted otherwise, and texts in another order."""
    program = (
        "import sys, json; from pathlib import Path; from pipeline.config.sections import T5Build;"
        "from pipeline.sources.built_model import build_t5;"
        "build, texts = json.load(sys.stdin); build_t5(T5Build(**build), texts, Path(sys.argv[1]))"
    )
    given = json.dumps([BUILD.model_dump(), sentences()[::-1]])
    command = [sys.executable, "-c", program, str(tmp_path / "again")]
    subprocess.run(command, input=given, text=True, cwd=ROOT, check=True)
    assert tree(tmp_path / "again") == tree(built)

    build_t5(BUILD.model_copy(update={"seed": 1}), sentences(), tmp_path / "other")
    other = tree(tmp_path / "other")
    assert {name for name, content in tree(built).items() if other[name] != content} == {"model.safetensors"}


def test_the_random_numbers_of_others_are_not_touched(tmp_path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    build_t5(BUILD, sentences(), tmp_path / "base")
    assert torch.equal(torch.rand(3), expected)


def test_a_vocabulary_that_the_texts_do_not_give_is_refused_and_nothing_written(tmp_path: Path) -> None:
    for size in (500, 5):  # more than there are pieces, fewer than there are letters
        with pytest.raises(UserError, match=rf"model.build.vocab_size: .*got {size}; correct it"):
            build_t5(BUILD.model_copy(update={"vocab_size": size}), sentences(), tmp_path / "base")
        assert not any(tmp_path.iterdir())


def test_what_it_was_made_of_is_told(tmp_path: Path) -> None:
    told = build_t5(BUILD, sentences(), tmp_path / "base")
    assert told["build"] == BUILD.model_dump()
    assert set(told["sha256"]) == set(tree(tmp_path / "base"))
