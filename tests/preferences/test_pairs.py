"""A preferences file: all samples, written sorted and read as written; which of them are chosen and rejected."""

import json
from dataclasses import asdict, replace

import pytest

from pipeline.io.errors import UserError
from pipeline.preferences.pairs import Pair, PromptSamples, Sample, pairs_of, read_samples, samples_of, write_samples

PAIR = Pair("b", "the dog", [3, 4], "sits", [5, 2], 0.125, "runs", [6], 0.875)
SITS, WAITS, RUNS = Sample("sits", [5, 2], 0.125), Sample("waits", [7], None), Sample("runs", [6], 0.875)
ROW = PromptSamples("b", "the dog", [3, 4], [WAITS, RUNS, SITS], [(2, 1)])


def test_samples_come_back_as_they_were_sorted_by_prompt(tmp_path):
    other = replace(ROW, prompt_id="a", samples=[SITS, WAITS], pairs=[])
    write_samples(tmp_path / "0.jsonl", [ROW, other])
    assert read_samples(tmp_path / "0.jsonl") == [other, ROW]
    write_samples(tmp_path / "1.jsonl", [other, ROW])
    assert (tmp_path / "0.jsonl").read_bytes() == (tmp_path / "1.jsonl").read_bytes()


def test_a_line_is_a_prompt_with_all_its_samples_and_the_places_of_its_pairs(tmp_path):
    write_samples(tmp_path / "0.jsonl", [ROW])
    (line,) = (tmp_path / "0.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "prompt_id": "b",
        "prompt": "the dog",
        "prompt_ids": [3, 4],
        "samples": [
            {"text": "waits", "token_ids": [7], "toxicity": None},
            {"text": "runs", "token_ids": [6], "toxicity": 0.875},
            {"text": "sits", "token_ids": [5, 2], "toxicity": 0.125},
        ],
        "pairs": [[2, 1]],
    }


def test_pairs_are_made_of_the_samples_at_their_places_in_order():
    several = replace(ROW, prompt_id="c", pairs=[(2, 0), (0, 1)])
    found = pairs_of([ROW, replace(ROW, pairs=[]), several])
    assert [(pair.prompt_id, pair.chosen, pair.rejected) for pair in found] == [
        ("b", "sits", "runs"),
        ("c", "sits", "waits"),
        ("c", "waits", "runs"),
    ]
    assert found[0] == PAIR
    assert (found[1].chosen_ids, found[1].rejected_ids, found[1].rejected_toxicity) == ([5, 2], [7], None)


@pytest.mark.parametrize("chosen, rejected", [(None, 0.5), (0.5, None), (None, None), (0.875, 0.125)])
def test_a_toxicity_may_be_missing_and_what_people_chose_the_more_toxic_answer(tmp_path, chosen, rejected):
    pair = replace(PAIR, chosen_toxicity=chosen, rejected_toxicity=rejected)
    write_samples(tmp_path / "0.jsonl", [samples_of(pair)])
    assert pairs_of(read_samples(tmp_path / "0.jsonl")) == [pair]


def test_a_prompt_without_a_pair_keeps_its_samples_and_gives_none(tmp_path):
    write_samples(tmp_path / "0.jsonl", [replace(ROW, pairs=[])])
    (row,) = read_samples(tmp_path / "0.jsonl")
    assert row.samples == ROW.samples and pairs_of([row]) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"samples": ...},
        {"prompt_ids": ...},
        {"score": 1},
        {"samples": [{"text": "sits"}]},
        {"samples": 7},
        {"pairs": [[0, 3]]},
        {"pairs": [[-1, 0]]},
        {"pairs": [[0]]},
    ],
    ids=str,
)
def test_a_line_that_the_stage_cannot_have_written_is_one_message_with_file_and_line(tmp_path, bad):
    file = tmp_path / "0.jsonl"
    row = {key: value for key, value in (asdict(ROW) | bad).items() if value is not ...}
    file.write_text("".join(json.dumps(item) + "\n" for item in (asdict(ROW), row)))
    with pytest.raises(UserError) as raised:
        read_samples(file)
    assert str(raised.value) == f"{file}:2: expected the scored samples of a prompt; delete it, run `dvc repro`"


@pytest.mark.parametrize("bad", ["{not json", "[1, 2]"])
def test_a_line_that_is_no_object_names_file_and_line(tmp_path, bad):
    (tmp_path / "0.jsonl").write_text(f"{json.dumps(asdict(ROW))}\n{bad}\n")
    with pytest.raises(UserError, match=r"0\.jsonl:2: .*JSON"):
        read_samples(tmp_path / "0.jsonl")
