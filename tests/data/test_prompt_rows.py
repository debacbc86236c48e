"""The row schema: what a prompt's id stands for, and which files are refused."""

import json

import pytest

from pipeline.data import schema
from pipeline.data.schema import prompt_row
from pipeline.io.errors import UserError
from pipeline.io.records import write_jsonl


def test_the_id_is_the_same_for_every_spelling_of_one_prompt():
    spellings = ["The café is", "the  CAFÉ\tis", " The cafe\u0301 is\n"]
    assert len({prompt_row(text).id for text in spellings}) == 1
    assert len({prompt_row(text).id for text in ["The café is", "The cafe is", "The café is.", "Thecafé is"]}) == 4


def test_the_id_is_pinned():  # a change would move every prompt between splits
    assert prompt_row("The weather today is").id == "60366bbe132b4798"


def test_categories_are_sorted_and_not_repeated():
    assert prompt_row("x", ["b", "a", "b"]).categories == ["a", "b"]


def test_rows_survive_the_way_to_disk_and_back(tmp_path):
    rows = [prompt_row("one\u2028line “café”", ["b", "a"], ["mild", "calm"], "kind", "rude"), prompt_row("two")]
    write_jsonl(tmp_path / "rows.jsonl", map(schema.to_json, rows))
    assert schema.read_prompts(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": 3}, "prompt: expected a string, got int"),
        ({"prompt": None}, "prompt: expected a string, got NoneType"),
        ({"prompt": " \n"}, "prompt: expected text, got only whitespace"),
        ({"categories": "a"}, "categories: expected a list of strings, got str"),
        ({"categories": [1]}, "categories: expected a list of strings, got list"),
        ({"chosen": []}, "chosen: expected a string or null, got list"),
        ({"chose": "x"}, "chose: unknown key, expected id, prompt"),
        ({"id": "0" * 16}, "id: expected the prompt's content hash"),
    ],
)
def test_a_row_of_another_shape_is_named_by_file_and_line(tmp_path, change, message):
    good = schema.to_json(prompt_row("fine"))
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(UserError) as error:
        schema.read_prompts(path)
    assert str(error.value).startswith(f"{path}:2: ") and message in str(error.value)


def test_a_missing_key_is_named(tmp_path):
    row = schema.to_json(prompt_row("fine"))
    del row["rejected"], row["categories"]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match="rows.jsonl:1: categories: missing; rejected: missing"):
        schema.read_prompts(tmp_path / "rows.jsonl")
