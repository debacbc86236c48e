"""Texts out of downloaded files of several formats, and the units that they are cut into."""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.config.sections import RawText
from pipeline.data.schema import normalized
from pipeline.io import records
from pipeline.io.errors import UserError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?:<br\s*/?>|\n)+\s*")
_SPEAKER = re.compile(r"^\s*\w+:\s+")


def read_texts(raw: Path, source: RawText, key: str) -> list[str]:
    """Return the different texts of one source, in order.

    Raises UserError naming file and row when one is malformed; `key` is where the experiment file describes the source.
    """
    path = raw / source.file
    field = source.field or "text"
    different: dict[str, str] = {}
    for row, text in enumerate(_fields(path, source.field, key), start=1):
        if not isinstance(text, str):
            raise UserError(f"{path}: row {row}: {field}: expected a string; correct the field or the row")
        if "\0" in text:
            raise UserError(f"{path}: row {row}: {field}: expected text, got a NUL character; repair the row")
        if text.strip() and not (source.skip and source.skip in text):
            different.setdefault(normalized(text), text)
    if not different:
        raise UserError(f"{path}: {field}: expected texts, found none; correct {key}")
    return list(different.values())


def units(text: str, unit: str) -> Iterator[str]:
    """Yield a text whole, sentence by sentence, or turn by turn without the speaker's name."""
    if unit == "turn":
        parts = [_SPEAKER.sub("", line) for line in text.splitlines()]
    else:
        parts = _SENTENCE_END.split(text) if unit == "sentence" else [text]
    yield from (part for part in parts if part.strip())


def _fields(path: Path, field: str | None, key: str) -> Iterator[object]:
    """Yield what each row holds in `field`, a plain text file's lines where that is None."""
    if path.suffix not in (".jsonl", ".csv", ".txt"):
        raise UserError(f"{path}: expected a .jsonl, .csv or .txt file; correct {key}")
    if (field is None) != (path.suffix == ".txt"):
        expected = "null, since a .txt file has a text a line" if field else "the name of a field"
        raise UserError(f"{key}.field: expected {expected}; correct it")
    if field is None:
        yield from _lines(path)
    elif path.suffix == ".jsonl":
        yield from (row.get(field) for row in records.read_jsonl(path))
    else:
        yield from _csv_fields(path, field)


def _lines(path: Path) -> Iterator[str]:
    # Lines end at "\n" alone: a text may hold other characters that Python would also end a line at.
    with records.opened(path, newline="\n") as file:
        yield from (line.rstrip("\r\n") for line in records.lines(file, path))


def _csv_fields(path: Path, field: str) -> Iterator[object]:
    with records.opened(path, newline="") as file:
        yield from (row[field] for row in records.parsed_csv(file, str(path), [field]))
