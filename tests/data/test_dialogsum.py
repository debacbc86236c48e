"""DialogSum: two layouts of one data set, its own splits, all summaries of a dialogue together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.data import dialogsum, readers, splits
from pipeline.data.schema import PromptRow
from pipeline.io.errors import UserError
from tests.data import dialogues
from tests.data.dialogues import dialogue, section, write_authors, write_csv, write_hub, write_jsonl

WRITERS = {"hub": write_hub, "authors": write_authors}
Write = Callable[[Path], None]


def read(raw: Path, **changes: Any) -> dict[str, list[PromptRow]]:
    """Return the rows by the split that the reader gives them."""
    rows: dict[str, list[PromptRow]] = {}
    for row, split in readers.read_raw(section(**changes), raw).rows:
        assert split is not None
        rows.setdefault(split, []).append(row)
    return rows


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_every_dialogue_is_a_prompt_within_the_instruction_with_all_its_summaries(write: Write, tmp_path: Path) -> None:
    write(tmp_path)
    rows = read(tmp_path)
    assert {name: len(members) for name, members in rows.items()} == {"train": 3, "dev": 2, "eval": 2}
    first = rows["eval"][0]
    assert first.prompt == f"Summarize the following conversation.\n\n{dialogue('test 0')}\n\nSummary: "
    assert first.demonstrations == ["Goose 0, said 0.", "Goose 0, said 1.", "Goose 0, said 2."]
    assert rows["train"][2].demonstrations == ["Goose 2."]
    assert {(row.chosen, row.rejected, *row.categories) for members in rows.values() for row in members} == {
        (None, None)
    }


def test_both_layouts_give_the_same_rows(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
    assert read(tmp_path / "hub") == read(tmp_path / "authors")


def test_summaries_are_found_together_wherever_their_rows_stand(tmp_path: Path) -> None:
    write_hub(tmp_path)
    one, other = dialogue("one"), dialogue("other")
    write_csv(tmp_path / "dialogsum" / "test.csv", [(one, "a"), (other, "b"), (one, "c"), (other, "d"), (one, "a")])
    assert [row.demonstrations for row in read(tmp_path)["eval"]] == [["a", "c", "a"], ["b", "d"]]


def test_dialogues_outside_the_bounds_are_left_out_and_counted_by_split(tmp_path: Path) -> None:
    write_hub(tmp_path)
    short, long = dialogue("train 0"), dialogue("train 0", turns=3)
    write_csv(tmp_path / "dialogsum" / "train.csv", [(short, "a"), (long, "b"), (short[1:], "c"), (long + "!", "d")])
    found = readers.read_raw(section(min_characters=len(short), max_characters=len(long)), tmp_path)
    kept = [row.demonstrations for row, split in found.rows if split == "train"]
    assert kept == [["a"], ["b"]], "both bounds are within"
    assert (found.left_out["train_shorter"], found.left_out["train_longer"]) == (1, 1)


def test_braces_in_a_dialogue_are_text(tmp_path: Path) -> None:
    write_hub(tmp_path)
    text = "#Person1#: {dialogue} {0} %s\n#Person2#: {"
    write_csv(tmp_path / "dialogsum" / "train.csv", [(text, "a")])
    (row,) = read(tmp_path)["train"]
    assert text in row.prompt and dialogsum.dialogue_of(row.prompt, section()) == text


def test_most_keeps_those_of_lowest_content_hash_and_says_how_many_it_cut(tmp_path: Path) -> None:
    write_hub(tmp_path, train=40, dev=5, test=20)
    rows = readers.read_raw(section(), tmp_path).rows
    everything = splits.split(rows, section())
    most = {"train": 10, "dev": None, "eval": 50}
    limited = splits.split(rows, section(most=most))
    assert limited.rows["train"] == everything.rows["train"][:10]
    assert [row.id for row in limited.rows["train"]] == sorted(row.id for row in everything.rows["train"])[:10]
    assert (limited.rows["dev"], limited.rows["eval"]) == (everything.rows["dev"], everything.rows["eval"])
    assert limited.beyond_most == {"demonstrations": 0, "train": 30, "dev": 0, "eval": 0}


def test_a_dialogue_that_stands_in_one_of_another_split_is_removed_though_the_instruction_is_around_both(
    tmp_path: Path,
) -> None:
    write_hub(tmp_path)
    inner = dialogue("test 1")
    around = f"#Person1#: Hello.\n{inner}\n#Person2#: Good bye."
    write_csv(tmp_path / "dialogsum" / "train.csv", [(dialogue("train 0"), "a"), (around, "b"), (inner.upper(), "c")])
    result = splits.split(readers.read_raw(section(), tmp_path).rows, section())
    assert [row.demonstrations for row in result.rows["train"]] == [["a"]]
    assert (result.overlapping, result.duplicates) == (1, 1)
    (kept,) = [row for row in result.rows["eval"] if inner in row.prompt]
    assert len(kept.demonstrations) == 3, "what was said of it in train is no reference"


def lines(raw: Path, name: str, *rows: object) -> None:
    (raw / "dialogsum" / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no test file": (lambda raw: (raw / "dialogsum" / "test.csv").unlink(), "found none of eval; correct data.sources"),
    "no files": (
        lambda raw: [path.unlink() for path in (raw / "dialogsum").iterdir()],
        "found none of dev, eval, train",
    ),
    "unknown file": (
        lambda raw: lines(raw, "hidden.jsonl", {}),
        r"named train, validation, dev, test, .* 'hidden.jsonl'",
    ),
    "two dev files": (
        lambda raw: lines(raw, "dev.jsonl", {}),
        "one file of the dev split, found dev.jsonl and validation",
    ),
    "another column": (lambda raw: rename(raw, "summary", "abstract"), r"train.csv: column 'summary' is missing"),
    "empty summary": (
        lambda raw: one(raw, summary=" "),
        "train.csv: row 2: summary: expected text, got only whitespace",
    ),
    "empty dialogue": (
        lambda raw: one(raw, dialogue=""),
        "train.csv: row 2: dialogue: expected text, got only whitesp",
    ),
    "NUL": (lambda raw: one(raw, dialogue="a\0b"), r"train.csv.*(NUL|line contains)"),
    "header alone": (lambda raw: write_csv(raw / "dialogsum" / "train.csv", []), "expected dialogues, found none"),
    "missing summary": (lambda raw: instead(raw, {"dialogue": "a"}), "train.jsonl:1: summary: missing"),
    "missing dialogue": (
        lambda raw: instead(raw, {"summary": "a"}),
        "train.jsonl:1: dialogue: expected a string, got None",
    ),
    "number": (
        lambda raw: instead(raw, {"dialogue": "a", "summary": 7}),
        "train.jsonl:1: summary: expected a string, got i",
    ),
}


def rename(raw: Path, old: str, new: str) -> None:
    path = raw / "dialogsum" / "train.csv"
    path.write_text(path.read_text().replace(old, new, 1))


def one(raw: Path, dialogue: str = "one", summary: str = "two") -> None:
    write_csv(raw / "dialogsum" / "train.csv", [(dialogues.dialogue("train 0"), "a"), (dialogue, summary)])


def instead(raw: Path, row: dict[str, Any]) -> None:
    (raw / "dialogsum" / "train.csv").unlink()
    write_jsonl(raw / "dialogsum" / "train.jsonl", [row])


@pytest.mark.parametrize(("broken", "said"), BROKEN.values(), ids=BROKEN)
def test_what_is_not_dialogsum_is_named(broken: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    write_hub(tmp_path)
    broken(tmp_path)
    with pytest.raises(UserError, match=said):
        readers.read_raw(section(), tmp_path)
