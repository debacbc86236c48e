"""Token ids of prompts, and prompts that are refused."""

from pathlib import Path

import pytest

from pipeline.data.schema import prompt_row
from pipeline.io.errors import UserError
from pipeline.policy.prompts import tokenize_prompts
from tests.policy import tiny_llama

FILE = Path("formatted/train.jsonl")


def tokenized(*texts):
    model = tiny_llama.section("model", max_prompt_tokens=4)
    return tokenize_prompts([prompt_row(text) for text in texts], tiny_llama.tokenizer(), model, FILE)


def test_a_prompt_keeps_its_text_its_id_and_its_words():
    row = prompt_row("the old farmer sings")
    (prompt,) = tokenized(row.prompt)
    assert (prompt.id, prompt.text) == (row.id, row.prompt)
    assert [tiny_llama.VOCABULARY[token] for token in prompt.token_ids] == row.prompt.split()


def test_a_prompt_that_is_too_long_names_file_row_and_remedy():
    with pytest.raises(UserError) as raised:
        tokenized("the dog", "the dog sits under the table")
    message = str(raised.value)
    assert message.startswith(f"{FILE}:2:") and "6 tokens" in message and "max_prompt_tokens" in message
    assert prompt_row("the dog sits under the table").id in message


def test_a_prompt_without_a_token_is_refused():
    with pytest.raises(UserError, match=r"train\.jsonl:1: .* has 0 tokens"):
        tokenized("")
