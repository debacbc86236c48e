"""A preferences file: written sorted, read as written, and refused by line where it is not what it should be."""

import json

import pytest

from pipeline.io.errors import UserError
from pipeline.preferences.pairs import Pair, pairs_of, read_samples, write_pairs

PAIR = Pair("b", "the dog", [3, 4], "sits", [5, 2], 0.125, "runs", [6], 0.875)


def write_rows(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def test_pairs_come_back_as_they_were_sorted_by_prompt(tmp_path):
    other = Pair(**(vars(PAIR) | {"prompt_id": "a", "chosen_ids": [7]}))
    write_pairs(tmp_path / "0.jsonl", [PAIR, other])
    assert pairs_of(read_samples(tmp_path / "0.jsonl")) == [other, PAIR]
    write_pairs(tmp_path / "1.jsonl", [other, PAIR])
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


@pytest.mark.parametrize(
    "bad, named",
    [
        ({key: value for key, value in vars(PAIR).items() if key != "chosen_ids"}, "chosen_ids"),
        (vars(PAIR) | {"score": 1}, "score"),
        ({}, "prompt"),
        (vars(PAIR) | {"chosen_ids": "5 2"}, "chosen_ids"),
        (vars(PAIR) | {"rejected_toxicity": "high"}, "rejected_toxicity"),
        ("{not json", "JSON"),
        ("[1, 2]", "JSON"),
    ],
    ids=["missing key", "unknown key", "empty row", "text for ids", "text for toxicity", "broken", "list"],
)
def test_a_malformed_row_names_file_line_and_key(tmp_path, bad, named):
    write_rows(tmp_path / "0.jsonl", vars(PAIR), bad)
    with pytest.raises(UserError, match=r"0\.jsonl:2: ") as raised:
        pairs_of(read_samples(tmp_path / "0.jsonl"))
    assert named in str(raised.value)


@pytest.mark.parametrize("chosen, rejected", [(None, 0.5), (0.5, None), (None, None), (0.875, 0.125)])
def test_a_toxicity_may_be_missing_and_what_people_chose_the_more_toxic_answer(tmp_path, chosen, rejected):
    pair = Pair(**(vars(PAIR) | {"chosen_toxicity": chosen, "rejected_toxicity": rejected}))
    write_pairs(tmp_path / "0.jsonl", [pair])
    assert pairs_of(read_samples(tmp_path / "0.jsonl")) == [pair]


@pytest.mark.parametrize("wrong", [-0.125, 1.5])
def test_a_toxicity_that_is_none_is_refused(tmp_path, wrong):
    write_rows(tmp_path / "0.jsonl", vars(PAIR) | {"rejected_toxicity": wrong})
    with pytest.raises(UserError, match=r"0\.jsonl:1: rejected_toxicity: expected a number from 0 to 1 or null"):
        pairs_of(read_samples(tmp_path / "0.jsonl"))


def test_no_pairs_is_an_error_with_a_remedy(tmp_path):
    write_pairs(tmp_path / "0.jsonl", [])
    with pytest.raises(UserError, match=r"0\.jsonl: no pairs; lower preferences\.margin"):
        pairs_of(read_samples(tmp_path / "0.jsonl"))
