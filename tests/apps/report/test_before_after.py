"""What every training made of the same prompts: in order, whole in the CSV, and no formula for a spreadsheet."""

import csv

import pytest

from pipeline.apps import report
from pipeline.apps.report import before_after, material
from pipeline.io import paths
from pipeline.io.records import read_jsonl, write_jsonl
from tests.apps.report.made import NAME
from tests.apps.report.made_numbers import JUDGES, METHODS


def alter(place, policy, change, seed=0):
    """Rewrite the rows of one file."""
    path = place(NAME, seed, policy)
    write_jsonl(path, [row | change(row) for row in read_jsonl(path)])


def written():
    report.write(NAME)
    with (paths.report(NAME) / before_after.FILE).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(prompt_id, toxicity):
    """Return a change that gives the first sample of a prompt this score by the primary judge."""
    wanted = (prompt_id, 0, "minilm")
    return lambda row: {"toxicity": toxicity} if (row["prompt_id"], row["sample"], row["judge"]) == wanted else {}


def test_every_method_seed_and_prompt_is_a_row_and_the_largest_fall_comes_first(made):
    rows = written() if made.write() else []
    assert len(rows) == len(METHODS) * len(made.seeds) * made.prompts
    for method in METHODS:
        changes = [float(row["change"]) for row in rows if row["method"] == method]
        assert changes == sorted(changes) and changes[0] < changes[-1]
    for row in rows:
        fall = float(row["toxicity_after"]) - float(row["toxicity_before"])
        assert float(row["change"]) == pytest.approx(fall, abs=2e-6)
        prompt = int(row["prompt_id"][1:])
        assert row["completion_after"] == made.completion(int(row["seed"]), row["method"], prompt, 0)


def test_equal_changes_are_ordered_by_prompt_and_a_missing_score_has_none_and_comes_last(made):
    made.write()
    for seed in made.seeds:
        for policy in ("reference", "sft"):
            alter(paths.scores, policy, lambda row: {"toxicity": 0.5}, seed)
    alter(paths.scores, "sft", score("p1", None))
    rows = [row for row in written() if row["method"] == "sft"]
    order = [(row["prompt_id"], int(row["seed"])) for row in rows]
    assert order[:-1] == sorted(order[:-1]) and order[-1] == ("p1", 0)
    assert (rows[-1]["toxicity_after"], rows[-1]["change"]) == ("", ""), "missing, not 0"
    assert {row["change"] for row in rows[:-1]} == {"0.0"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "  =1+1", "\tx", "\rx"])
def test_a_text_that_a_spreadsheet_would_run_stands_behind_an_apostrophe(made, text):
    made.write()
    alter(paths.completions, "sft", lambda row: {"completion": text} if row["prompt_id"] == "p0" else {})
    found = {row["completion_after"] for row in written() if (row["method"], row["prompt_id"]) == ("sft", "p0")}
    assert f"'{text}" in found and text not in found


def test_a_harmless_text_is_as_it_was_written(made):
    made.write()
    text = 'a "quoted" word, a comma\nand a second line - and 1 + 1 = 2'
    alter(paths.completions, "sft", lambda row: {"completion": text} if row["prompt_id"] == "p0" else {})
    assert text in {row["completion_after"] for row in written()}


def test_without_completions_there_is_no_old_table_beside_a_new_page(made):
    made.write()
    assert written()
    paths.completions(NAME, 0, "sft").unlink()
    report.write(NAME)
    assert not (paths.report(NAME) / before_after.FILE).exists()


def test_the_page_shows_both_ends_of_a_list_and_no_pair_twice(made):
    found = material.read(NAME) if made.write() else None
    places = before_after.ends(found.pairs, found.texts)
    for method, shown in places.items():
        rows = [*shown["first"], *shown["last"]]
        assert len(rows) == len(set(rows)) == min(2 * before_after.SHOWN, shown["total"])
        judge = found.texts.scores["minilm"]
        changes = [judge[method][row] - judge["reference"][row] for row in rows]
        assert changes == sorted(changes)
        assert all(row % made.samples == 0 for row in rows), "the first sample of a prompt"
    assert list(places) == METHODS


def test_means_and_deviations_are_those_of_the_evaluation(made):
    lines = before_after.lines(made.evaluation)
    assert [line.judge for line in lines] == [judge for judge in ("minilm", "words", "profanity") for _ in METHODS]
    assert len(JUDGES) == 3
    first = lines[0]
    assert (first.method, first.before.mean, first.after.mean) == ("sft", 0.24, 0.13)
    assert first.change.value == pytest.approx(-45.83, abs=0.01)
    del made.evaluation["sft"]["before_after"]
    assert "sft" not in {line.method for line in before_after.lines(made.evaluation)}
