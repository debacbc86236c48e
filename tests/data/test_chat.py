"""Chat data: messages in lists and answers in pairs, from files as the packages and the model hub have them."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from pipeline.data.chat import ChatData
from pipeline.data.readers import RawRows, read_raw
from pipeline.data.splits import split
from pipeline.io.errors import UserError

PAIRS = {"file": "dpo/pairs.parquet", "prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
ALL = {"eval_fraction": 0.4, "dev_fraction": 0.2, "train_fraction": 0.4}


def section(lists: dict[str, Any], pairs: dict[str, str] | None = None) -> ChatData:
    return ChatData.model_validate({"dataset": "chat", "sources": {}, "pairs": pairs, "lists": lists})


def listed(file: str, **changes: Any) -> dict[str, Any]:
    return {"file": file, "field": None, "category": None, "label": "hostile", **ALL, **changes}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_pairs(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


def of_split(found: RawRows, name: str) -> set[str]:
    return {row.prompt for row, given in found.rows if given == name}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write(tmp_path / "a" / "lines.txt", "".join(f"You are silly number {n}\n" for n in range(300)))
    rows = [{"text": f"Please bake cake number {n}", "kind": "cooking"} for n in range(200)]
    write(tmp_path / "b" / "rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_every_message_has_its_label_its_list_and_its_own_category(raw: Path) -> None:
    benign = listed("b/rows.jsonl", field="text", category="kind", label="benign")
    found = read_raw(section({"rude": listed("a/lines.txt"), "cakes": benign}), raw).rows
    categories = {row.prompt[:6]: row.categories for row, _ in found}
    assert categories == {"You ar": ["hostile", "rude"], "Please": ["benign", "cakes", "cooking"]}
    assert len(found) == 500


def test_fractions_hold_and_what_they_leave_out_is_counted(raw: Path) -> None:
    found = read_raw(section({"rude": listed("a/lines.txt", train_fraction=0.1)}), raw)
    sizes = {name: len(of_split(found, name)) for name in ("eval", "dev", "train")}
    assert 90 < sizes["eval"] < 150 and 35 < sizes["dev"] < 85 and 10 < sizes["train"] < 55
    assert found.left_out == {"rude_beyond_fractions": 300 - sum(sizes.values())}


def test_another_list_moves_no_message_and_a_larger_train_fraction_only_adds(raw: Path) -> None:
    few = read_raw(section({"rude": listed("a/lines.txt", train_fraction=0.1)}), raw)
    more = read_raw(
        section({"rude": listed("a/lines.txt"), "cakes": listed("b/rows.jsonl", field="text", label="benign")}), raw
    )
    for name in ("eval", "dev"):
        assert of_split(few, name) == {text for text in of_split(more, name) if text.startswith("You")}
    assert of_split(few, "train") < of_split(more, "train")


def test_answers_in_pairs_are_for_training_alone(raw: Path) -> None:
    write_pairs(
        raw / "dpo" / "pairs.parquet", prompt=["How?", "Why?"], chosen=["So.", "Thus."], rejected=["No.", "Nay."]
    )
    found = read_raw(section({"rude": listed("a/lines.txt")}, PAIRS), raw).rows
    pairs = [(row.prompt, row.chosen, row.rejected, given) for row, given in found if row.chosen is not None]
    assert pairs == [("How?", "So.", "No.", "train"), ("Why?", "Thus.", "Nay.", "train")]


def test_a_pair_whose_prompt_is_evaluated_is_not_trained_on(raw: Path) -> None:
    data = section({"rude": listed("a/lines.txt")}, PAIRS)
    evaluated = min(of_split(read_raw(section({"rude": listed("a/lines.txt")}), raw), "eval"))
    answers = {"chosen": ["Oh.", "Ah."], "rejected": ["No.", "Nay."]}
    write_pairs(raw / "dpo" / "pairs.parquet", prompt=[evaluated, "Something else altogether"], **answers)
    rows = split(read_raw(data, raw).rows, data).rows
    assert evaluated in {row.prompt for row in rows["eval"]}
    assert [row.prompt for row in rows["train"] if row.chosen] == ["Something else altogether"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"prompt": ["How?"], "chosen": ["So."]}, "pairs.parquet:1: rejected: expected text, got no such field"),
        ({"prompt": ["How?"], "chosen": ["So."], "rejected": [None]}, "pairs.parquet:1: rejected: .* got NoneType"),
        ({"prompt": ["How?", " "], "chosen": ["So."] * 2, "rejected": ["No."] * 2}, "pairs.parquet:2: prompt: .*white"),
        ({"prompt": [3], "chosen": ["So."], "rejected": ["No."]}, "pairs.parquet:1: prompt: expected text, got int"),
        ({"prompt": [], "chosen": [], "rejected": []}, "pairs.parquet: expected rows, found none"),
    ],
)
def test_a_malformed_pair_is_named_by_file_and_row(raw: Path, columns: dict[str, list[Any]], expected: str) -> None:
    write_pairs(raw / "dpo" / "pairs.parquet", **columns)
    with pytest.raises(UserError, match=expected):
        read_raw(section({"rude": listed("a/lines.txt")}, PAIRS), raw)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("pairs.parquet", "no parquet at all", "pairs.parquet: no parquet file that can be read"),
        ("pairs.csv", "prompt,chosen,rejected\n", "pairs.csv: expected a .parquet or .jsonl file"),
        ("absent/pairs.parquet", None, "pairs.parquet: not found"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(raw: Path, name: str, text: str | None, expected: str) -> None:
    if text is not None:
        write(raw / "dpo" / name, text)
    with pytest.raises(UserError, match=expected):
        read_raw(section({"rude": listed("a/lines.txt")}, {**PAIRS, "file": f"dpo/{name}"}), raw)


def test_an_empty_line_of_a_list_is_named_by_its_number(raw: Path) -> None:
    write(raw / "a" / "lines.txt", "You are silly\n\nSo are you\n")
    with pytest.raises(UserError, match=r"lines.txt:2: message: expected text, got only whitespace"):
        read_raw(section({"rude": listed("a/lines.txt")}), raw)


def test_an_empty_list_is_refused(raw: Path) -> None:
    write(raw / "a" / "lines.txt", "")
    with pytest.raises(UserError, match="lines.txt: expected one message a line, found none"):
        read_raw(section({"rude": listed("a/lines.txt")}), raw)


def test_a_category_that_is_a_label_is_refused(raw: Path) -> None:
    write(raw / "b" / "rows.jsonl", json.dumps({"text": "You are silly", "kind": "benign"}) + "\n")
    with pytest.raises(UserError, match=r"rows.jsonl:1: kind: 'benign' is a list's label"):
        read_raw(section({"rude": listed("b/rows.jsonl", field="text", category="kind")}), raw)


def test_a_pair_is_not_lost_to_another_spelling_of_its_prompt(raw: Path) -> None:
    data = section({"rude": listed("a/lines.txt", eval_fraction=0.3, dev_fraction=0.3)}, PAIRS)
    trained = min(of_split(read_raw(section({"rude": data.lists["rude"].model_dump()}), raw), "train"))
    for spelling in (trained.lower(), trained.upper()):
        write_pairs(raw / "dpo" / "pairs.parquet", prompt=[spelling], chosen=["Oh."], rejected=["No."])
        rows = split(read_raw(data, raw).rows, data).rows["train"]
        assert [(row.chosen, row.rejected) for row in rows if row.chosen] == [("Oh.", "No.")]
