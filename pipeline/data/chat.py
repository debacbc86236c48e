"""Chat messages in lists, and a preference data set in one file: parquet, as the model hub has them, or JSONL."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.sections import LABELS, ChatData, PairFile, PromptList
from pipeline.data.schema import LeftOut, PromptRow, damage, point_of, prompt_row, split_of
from pipeline.io import records
from pipeline.io.errors import UserError, shown

Given = tuple[PromptRow, str | None]


def read(raw: Path, data: ChatData) -> Iterator[Given | LeftOut]:
    """Yield the messages of every list in the split that their content gives them, then the pairs, all to train.

    Messages beyond a list's three fractions are left out. Raises UserError naming file and row of a message or an
    answer that is no text.
    """
    for name, listed in sorted(data.lists.items()):
        for place, values in _messages(raw / listed.file, listed):
            yield _message(place, values, name, listed)
    if data.pairs is not None:
        for place, values in _rows(raw / data.pairs.file):
            yield _pair(place, values, data.pairs), "train"


def _message(place: str, values: Mapping[str, Any], name: str, listed: PromptList) -> Given | LeftOut:
    prompt = _text(place, values, listed.field or "message")
    categories = [listed.label, name]
    if listed.category is not None:
        categories.append(_text(place, values, listed.category))
        if categories[-1] in LABELS:
            raise UserError(f"{place}: {listed.category}: {categories[-1]!r} is a list's label; use another word")
    row = prompt_row(prompt, categories=categories)
    split = split_of(row.id, listed.eval_fraction, listed.dev_fraction)
    # The train split grows next to the eval split, so that a larger one only adds messages.
    is_beyond = split == "train" and point_of(row.id) >= listed.eval_fraction + listed.train_fraction
    return LeftOut(f"{name}_beyond_fractions") if is_beyond else (row, split)


def _pair(place: str, values: Mapping[str, Any], pairs: PairFile) -> PromptRow:
    prompt, chosen, rejected = (_text(place, values, field) for field in (pairs.prompt, pairs.chosen, pairs.rejected))
    return prompt_row(prompt, chosen=chosen, rejected=rejected)


def _text(place: str, values: Mapping[str, Any], field: str) -> str:
    value = values.get(field)
    if not isinstance(value, str):
        found = f"{type(value).__name__}" if field in values else f"no such field among {shown(sorted(values))}"
        raise UserError(f"{place}: {field}: expected text, got {found}; correct the field's name or repair the row")
    if damaged := damage(value):
        raise UserError(f"{place}: {field}: expected text, got {damaged}; repair or remove the row")
    return value


def _messages(path: Path, listed: PromptList) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield place (file:row) and fields of every message; a line of a .txt file is the field `message`."""
    if listed.field is not None:
        yield from _rows(path)
        return
    # Lines end at "\n" alone: a message may hold other characters that Python would also end a line at.
    with records.opened(path, newline="\n") as file:
        number = 0
        for number, line in enumerate(records.lines(file, path), start=1):
            yield f"{path}:{number}", {"message": line.rstrip("\r\n")}
    if not number:
        raise UserError(f"{path}: expected one message a line, found none; {records.REMAKE}")


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield place (file:row, from 1) and fields of every row; raise UserError for a file with none."""
    if path.suffix == ".parquet":
        rows = _parquet(path)
    elif path.suffix == ".jsonl":
        rows = records.read_jsonl(path)
    else:
        raise UserError(f"{path}: expected a .parquet or .jsonl file; correct data.lists or data.pairs")
    if not rows:
        raise UserError(f"{path}: expected rows, found none; {records.REMAKE}")
    for number, row in enumerate(rows, start=1):
        yield f"{path}:{number}", row


def _parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    if not path.is_file():
        raise UserError(f"{path}: not found; correct data.pairs.file or run `dvc repro`")
    try:
        rows: list[dict[str, Any]] = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{path}: no parquet file that can be read ({reason}); {records.REMAKE}") from error
    return rows
