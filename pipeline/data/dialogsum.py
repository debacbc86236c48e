"""DialogSum (Chen et al. 2021): dialogues of two people with summaries that people wrote, in splits of its own.

It comes in two layouts, a file a split: the model hub's CSV, where every summary is a row (three rows a dialogue in
`test.csv`), and the authors' JSONL, where a test row holds `summary1` to `summary3`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import StringConstraints

from pipeline.config.declarations import DataSet
from pipeline.config.fields import Count, Name, Section, Source
from pipeline.data.schema import LeftOut, PromptRow, damage, prompt_row
from pipeline.io import records
from pipeline.io.errors import UserError, shown

Instruction = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{dialogue\}[^{}]*$")]


class MostRows(Section):
    """The largest number of rows of each split; null is all."""

    train: Count | None
    dev: Count | None
    eval: Count | None


class DialogSumData(Section):
    """Dialogues with human summaries in splits of their own; `most` limits a split, null does not.

    Dialogues of `min_characters` to `max_characters` are used, within `instruction`, which holds {dialogue} once.
    """

    dataset: Literal["dialogsum"]
    sources: dict[Name, Source]
    instruction: Instruction
    min_characters: Count
    max_characters: Count
    most: MostRows


SOURCE = "dialogsum"
SPLITS = {"train": "train", "validation": "dev", "dev": "dev", "test": "eval"}  # how a file is called
SUMMARIES = ("summary", "summary1", "summary2", "summary3")
PLACE = "{dialogue}"


def read(raw: Path, data: DialogSumData) -> Iterator[tuple[PromptRow, str | None] | LeftOut]:
    """Yield every dialogue of `raw/dialogsum` once, within the instruction, with all its summaries and its split.

    Files are `<split>.csv`, `<split>.jsonl` or `dialogsum.<split>.jsonl`, a split being train, validation (or dev) or
    test. Dialogues outside `data.min_characters` to `data.max_characters` are left out. Raises UserError naming what
    file is missing, and file and row of a dialogue or summary that is no text.
    """
    for file, split in _files(raw / SOURCE):
        for dialogue, summaries in _grouped(file).items():
            if len(dialogue) < data.min_characters:
                yield LeftOut(f"{split}_shorter")
            elif len(dialogue) > data.max_characters:
                yield LeftOut(f"{split}_longer")
            else:
                yield prompt_row(data.instruction.replace(PLACE, dialogue), demonstrations=summaries), split


def dialogue_of(prompt: str, data: DialogSumData) -> str:
    """Return the dialogue of a prompt that `read` has made."""
    before, after = data.instruction.split(PLACE)
    return prompt.removeprefix(before).removesuffix(after)


def _files(folder: Path) -> list[tuple[Path, str]]:
    found: dict[str, Path] = {}
    for file in sorted([*folder.glob("*.csv"), *folder.glob("*.jsonl")]):
        split = SPLITS.get(file.stem.removeprefix(f"{SOURCE}."))
        if split is None:
            raise UserError(
                f"{folder}: expected files named {', '.join(SPLITS)}, as .csv or .jsonl, found {shown(file.name)}; "
                f"correct data.sources.{SOURCE}"
            )
        if split in found:
            raise UserError(
                f"{folder}: expected one file of the {split} split, found {found[split].name} and {file.name}; "
                f"correct data.sources.{SOURCE}"
            )
        found[split] = file
    missing = sorted(set(SPLITS.values()) - found.keys())
    if missing:
        raise UserError(
            f"{folder}: expected a file of every split, found none of {', '.join(missing)}; "
            f"correct data.sources.{SOURCE}"
        )
    return [(file, split) for split, file in found.items()]


def _grouped(file: Path) -> dict[str, list[str]]:
    """Return the summaries of each dialogue of a file, both in its order."""
    grouped: dict[str, list[str]] = {}
    for place, row in _rows(file):
        given = [name for name in SUMMARIES if name in row]
        if not given:
            raise UserError(f"{place}: summary: missing; repair or remove the row")
        dialogue, *summaries = (_text(place, name, row.get(name)) for name in ("dialogue", *given))
        grouped.setdefault(dialogue, []).extend(summaries)
    if not grouped:
        raise UserError(f"{file}: expected dialogues, found none; {records.REMAKE}")
    return grouped


def _rows(file: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the place and the fields of each row."""
    if file.suffix == ".jsonl":
        yield from ((f"{file}:{number}", row) for number, row in enumerate(records.read_jsonl(file), start=1))
        return
    with records.opened(file, newline="") as text:
        rows = records.parsed_csv(text, str(file), ["dialogue", "summary"])
    yield from ((f"{file}: row {number}", row) for number, row in enumerate(rows, start=1))


def _text(place: str, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: {name}: expected a string, got {type(value).__name__}; repair or remove the row")
    if damaged := damage(value):
        raise UserError(f"{place}: {name}: expected text, got {damaged}; repair or remove the row")
    return value


def rules(file: Any) -> Iterator[str]:
    """Yield what contradicts itself in the section."""
    if file.data.min_characters > file.data.max_characters:
        yield "data.min_characters: expected at most data.max_characters; correct one of them"


def _most(data: DialogSumData, split: str) -> int | None:
    limit: int | None = getattr(data.most, split, None)
    return limit


DATASET = DataSet(
    "dialogsum",
    DialogSumData,
    read,
    sizes="data.min_characters or data.max_characters",
    splits_by_content=False,
    compared=lambda row, data: dialogue_of(row.prompt, data),
    most=_most,
    rules=rules,
)
