"""DialogSum in small: made-up dialogues in the layouts that the model hub and the authors have."""

import csv
import json
from pathlib import Path
from typing import Any

from pipeline.data.dialogsum import DialogSumData

INSTRUCTION = "Summarize the following conversation.\n\n{dialogue}\n\nSummary: "


def section(**changes: Any) -> DialogSumData:
    """Return the section `data`; as it is, it takes every dialogue of `write_hub` and `write_authors`."""
    values = {"dataset": "dialogsum", "sources": {}, "instruction": INSTRUCTION} | changes
    limits = {"min_characters": 1, "max_characters": 1000, "most": {"train": None, "dev": None, "eval": None}}
    return DialogSumData.model_validate(limits | values)


def dialogue(name: str, turns: int = 2) -> str:
    """Return different dialogues for different names and numbers of turns."""
    return "\n".join(f"#Person{turn % 2 + 1}#: We talk, {name}, of goose number {turn}." for turn in range(turns))


def write_hub(raw: Path, train: int = 3, dev: int = 2, test: int = 2) -> None:
    """Write the hub's CSV: a summary a row, three rows a dialogue of `test`."""
    rows = {
        name: [(dialogue(f"{name} {n}"), f"Goose {n}.") for n in range(count)] for name, count in _split(train, dev)
    }
    rows["test"] = [(dialogue(f"test {n}"), f"Goose {n}, said {m}.") for n in range(test) for m in range(3)]
    for name, members in rows.items():
        write_csv(raw / "dialogsum" / f"{name}.csv", members)


def write_csv(path: Path, rows: list[tuple[str, str]]) -> None:
    """Write dialogues and summaries under the hub's header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "dialogue", "summary", "topic"])
        writer.writerows([f"{path.stem}_{number}", *row, "geese"] for number, row in enumerate(rows))


def write_authors(raw: Path, train: int = 3, dev: int = 2, test: int = 2) -> None:
    """Write the authors' JSONL of the same content: `summary`, and in the test file summary1 to summary3."""
    names = {"train": "train", "validation": "dev"}
    for name, count in _split(train, dev):
        rows = [{"dialogue": dialogue(f"{name} {n}"), "summary": f"Goose {n}."} for n in range(count)]
        write_jsonl(raw / "dialogsum" / f"dialogsum.{names[name]}.jsonl", rows)
    rows = [
        {"dialogue": dialogue(f"test {n}"), **{f"summary{m + 1}": f"Goose {n}, said {m}." for m in range(3)}}
        for n in range(test)
    ]
    write_jsonl(raw / "dialogsum" / "dialogsum.test.jsonl", rows)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one object a line, with what the authors' rows have besides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"fname": f"{path.stem}_{number}", **row}) + "\n" for number, row in enumerate(rows)]
    path.write_text("".join(lines), encoding="utf-8")


def _split(train: int, dev: int) -> list[tuple[str, int]]:
    return [("train", train), ("validation", dev)]
