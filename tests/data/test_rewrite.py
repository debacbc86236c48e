"""Sentences to be repeated: which there are, what split they are given, what is left out, and what is refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import readers
from pipeline.data.rewrite import RewriteData, shuffled
from pipeline.data.schema import PromptRow, prompt_row, split_of
from pipeline.data.splits import split
from pipeline.io.errors import UserError
from tests.data.dialogues import write_csv, write_jsonl

SOURCES: dict[str, dict[str, Any]] = {
    "rude": {"file": "lines/rude.txt", "field": None, "unit": "text", "split": "content"},
    "calm": {"file": "rows/calm.jsonl", "field": "text", "unit": "sentence", "split": "train"},
    "talk": {"file": "rows/talk.csv", "field": "dialogue", "unit": "turn", "split": "demonstrations"},
}
RUDE = ["you silly old goose", "Darn  this\tsilly rain", "go away", "YOU silly OLD goose", ""]
CALM = ["The river is calm. The moon is up!", "A goose walks by.", "the river is calm."]


def section(**changes: Any) -> RewriteData:
    """Return the section `data`; a change named like a text is made to it."""
    texts = {name: {"skip": None, "most": None, **text, **changes.pop(name, {})} for name, text in SOURCES.items()}
    bounds = {"min_words": 3, "max_words": 6, "shuffled_copies": 0, "eval_fraction": 0.3, "dev_fraction": 0.2}
    return RewriteData.model_validate({"dataset": "rewrite", "sources": {}, "texts": texts, **bounds, **changes})


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    for folder in ("lines", "rows"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lines" / "rude.txt").write_text("".join(f"{line}\n" for line in RUDE), encoding="utf-8")
    write_jsonl(tmp_path / "rows" / "calm.jsonl", [{"text": text} for text in CALM])
    write_csv(tmp_path / "rows" / "talk.csv", [("Ann: I like this tree.\nBob: So do I, Ann.", "none")])
    return tmp_path


def read(raw: Path, **changes: Any) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Return the sentences of each source and what was left out."""
    found = readers.read_raw(section(**changes), raw)
    by_source: dict[str, list[str]] = {}
    for row, _ in found.rows:
        by_source.setdefault(*row.categories, []).append(row.prompt)  # type: ignore[call-overload]
    return by_source, found.left_out


def test_lines_sentences_and_turns_become_prompts_once_with_one_space_between_words(raw: Path) -> None:
    found, left_out = read(raw)
    assert found["rude"] == ["you silly old goose", "Darn this silly rain"]
    assert found["calm"] == ["The river is calm.", "The moon is up!", "A goose walks by."]
    assert found["talk"] == ["I like this tree.", "So do I, Ann."]
    assert left_out == {"other_length": 1}, "go away"


def test_a_sentence_is_its_own_demonstration_and_its_source_its_category(raw: Path) -> None:
    for row, _ in readers.read_raw(section(), raw).rows:
        assert row.demonstrations == [row.prompt] and row.chosen is row.rejected is None
        assert row.categories[0] in SOURCES and len(row.categories) == 1


def test_a_source_names_the_split_of_its_sentences_or_leaves_it_to_their_content(raw: Path) -> None:
    rows = readers.read_raw(section(), raw).rows
    given = {row.categories[0]: split for row, split in rows}
    assert given == {"rude": None, "calm": "train", "talk": "demonstrations"}


@pytest.mark.parametrize("unit", ["text", "sentence"])
def test_a_text_is_cut_as_its_source_says(raw: Path, unit: str) -> None:
    found, _ = read(raw, calm={"unit": unit}, max_words=8)
    assert ("The river is calm. The moon is up!" in found["calm"]) == (unit == "text")


def test_texts_that_hold_what_is_skipped_give_nothing(raw: Path) -> None:
    assert read(raw, calm={"skip": "moon"})[0]["calm"] == ["A goose walks by.", "the river is calm."]


def test_bounds_are_words_both_included(raw: Path) -> None:
    found, left_out = read(raw, min_words=4, max_words=4)
    assert {len(text.split()) for texts in found.values() for text in texts} == {4}
    assert left_out["other_length"] == 1 and len(found["rude"]) == 2


def write_many(raw: Path, count: int = 400) -> None:
    (raw / "lines" / "rude.txt").write_text("".join(f"silly goose number {number}\n" for number in range(count)))


def test_most_keeps_so_many_in_their_order_and_counts_the_others(raw: Path) -> None:
    write_many(raw)
    every, (some, left_out) = read(raw)[0]["rude"], read(raw, rude={"most": 100})
    assert len(some["rude"]) == 100 and left_out["beyond_most"] == 300
    assert some["rude"] == [text for text in every if text in set(some["rude"])]
    assert some["rude"] != every[:100]
    assert set(read(raw, rude={"most": 50})[0]["rude"]) < set(some["rude"]), "a larger number adds to a smaller one"
    assert read(raw, rude={"most": 1000}) == read(raw)


def test_what_most_keeps_is_in_every_split_as_all_are(raw: Path) -> None:
    """Were the draw that of the split, a tenth of the sentences would all be eval prompts."""
    write_many(raw, 1000)
    ids = [row.id for row, given in readers.read_raw(section(rude={"most": 100}), raw).rows if given is None]
    counts = Counter(split_of(row_id, 0.3, 0.2) for row_id in ids)
    assert 15 <= counts["eval"] <= 45 and 8 <= counts["dev"] <= 35 and sum(counts.values()) == 100


def test_a_prompt_of_eval_or_dev_is_learnt_from_in_no_other_source(raw: Path) -> None:
    write_many(raw)
    texts = [f"Silly Goose Number {number}" for number in range(400)]
    write_jsonl(raw / "rows" / "calm.jsonl", [{"text": text} for text in texts])
    data = section(max_words=8)
    rows = split(readers.read_raw(data, raw).rows, data).rows
    held_out = {row.id for name in ("dev", "eval") for row in rows[name]}
    assert len(held_out) > 100 and not held_out & {row.id for name in ("demonstrations", "train") for row in rows[name]}


def rows_of(*texts: str) -> list[PromptRow]:
    return [prompt_row(text, ["calm"], [text]) for text in texts]


def test_shuffled_copies_hold_the_same_words_in_other_orders() -> None:
    given = rows_of("the silly goose walks by the old river", "a moon is up")
    copies = shuffled(given, 3)
    assert copies == shuffled(given, 3) and 4 <= len(copies) <= 6
    orders = {row.prompt for row in copies}
    assert not orders & {row.prompt for row in given} and len(orders) == len(copies)
    assert {tuple(sorted(text.split())) for text in orders} == {tuple(sorted(row.prompt.split())) for row in given}
    assert all(row.demonstrations == [row.prompt] and row.categories == ["calm"] for row in copies)


def test_no_shuffled_copies_where_none_are_wanted_or_there_is_no_other_order() -> None:
    assert shuffled(rows_of("the silly goose"), 0) == [] == shuffled(rows_of("goose goose goose"), 5)


BROKEN = {
    "no file": ({"rude": {"file": "lines/none.txt"}}, r"none\.txt"),
    "other format": ({"rude": {"file": "lines/rude.md"}}, r"expected a \.jsonl, \.csv or \.txt file; correct data"),
    "field of lines": ({"rude": {"field": "text"}}, r"data\.texts\.rude\.field: expected null, since a \.txt file"),
    "no field": ({"calm": {"field": None}}, r"data\.texts\.calm\.field: expected the name of a field"),
    "unknown field": ({"calm": {"field": "body"}}, r"calm\.jsonl: row 1: body: expected a string"),
    "all too short": ({"min_words": 90, "max_words": 99}, r"sentences of 90 to 99 words, found none of 3; .*texts\.c"),
    "all skipped": ({"rude": {"skip": " "}, "calm": {"skip": " "}}, r"calm\.jsonl: text: expected texts, found none"),
}


@pytest.mark.parametrize(("changes", "message"), BROKEN.values(), ids=BROKEN)
def test_a_source_that_cannot_be_read_is_named_with_its_key(raw: Path, changes: dict[str, Any], message: str) -> None:
    (raw / "lines" / "rude.md").write_text("silly\n")
    with pytest.raises(UserError, match=message):
        read(raw, **changes)


def test_a_sentence_that_nobody_can_have_written_is_refused(raw: Path) -> None:
    write_jsonl(raw / "rows" / "calm.jsonl", [{"text": "\u200b \u200b \u200b"}])
    with pytest.raises(UserError, match=r"calm\.jsonl: expected sentences, got no visible character"):
        read(raw)


def test_lines_end_at_a_newline_alone(raw: Path) -> None:
    (raw / "lines" / "rude.txt").write_bytes("silly old\u2028goose\r\ndarn that rain\n".encode())
    assert read(raw)[0]["rude"] == ["silly old goose", "darn that rain"]
