"""Labelled text for the judge: files of many formats to units of text, and units to windows like completions."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import records
from pipeline.config.sections import JudgeText
from pipeline.data.overlap import PromptIndex
from pipeline.data.schema import normalized
from pipeline.errors import UserError

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?:<br\s*/?>|\n)+\s*")
_SPEAKER = re.compile(r"^\s*\w+:\s+")


@dataclass(frozen=True)
class Window:
    """Some consecutive words of the text at `text_index`, by which a text stays out of either the fit or the test."""

    words: str
    text_index: int


def read_texts(raw: Path, source: JudgeText) -> list[str]:
    """Return the different texts of one source, in order; raise UserError naming file and row when one is malformed."""
    path = raw / source.file
    different: dict[str, str] = {}
    for row, text in enumerate(_fields(path, source.field), start=1):
        if not isinstance(text, str):
            raise UserError(f"{path}: row {row}: {source.field}: expected a string; correct the field or the row")
        if "\0" in text:
            raise UserError(f"{path}: row {row}: {source.field}: expected text, got a NUL character; repair the row")
        if text.strip() and not (source.skip and source.skip in text):
            different.setdefault(normalized(text), text)
    if not different:
        raise UserError(f"{path}: {source.field}: expected texts, found none; correct judge.fit")
    return list(different.values())


def without_prompts(texts: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """Return the texts that neither contain nor stand in any prompt, whatever case, spacing and punctuation."""
    known, index = {normalized(prompt) for prompt in prompts}, PromptIndex(prompts)
    return [text for text in texts if not _touches(normalized(text), known) and not index.overlaps(text)]


def cut_windows(
    texts: Sequence[str],
    unit: str,
    window_words: Sequence[int],
    per_unit: int,
    limit: int | None,
    rng: np.random.Generator,
) -> list[Window]:
    """Cut `per_unit` random windows from each unit of the texts, in random order, and at most `limit` in all.

    The length of a window is uniform over `window_words` (shortest, longest); a unit shorter than that is taken whole.
    """
    units = [(index, part.split()) for index, text in enumerate(texts) for part in _units(text, unit)]
    shortest, longest = window_words
    cut = []
    for index, words in (units[position] for position in rng.permutation(len(units))):
        for _ in range(per_unit):
            length = int(rng.integers(shortest, longest + 1))
            start = int(rng.integers(0, max(0, len(words) - length) + 1))
            cut.append(Window(" ".join(words[start : start + length]), index))
        if limit is not None and len(cut) >= limit:
            break
    return cut[:limit]


def _touches(text: str, prompts: set[str]) -> bool:
    return any(prompt in text or text in prompt for prompt in prompts)


def _units(text: str, unit: str) -> Iterator[str]:
    """Yield a text whole, sentence by sentence, or turn by turn without the speaker's name."""
    if unit == "turn":
        parts = [_SPEAKER.sub("", line) for line in text.splitlines()]
    else:
        parts = _SENTENCE_END.split(text) if unit == "sentence" else [text]
    yield from (part for part in parts if part.strip())


def _fields(path: Path, field: str) -> Iterator[object]:
    if path.suffix == ".jsonl":
        yield from (row.get(field) for row in records.read_jsonl(path))
    elif path.suffix == ".csv":
        yield from _csv_fields(path, field)
    else:
        raise UserError(f"{path}: expected a .jsonl or .csv file; correct judge.fit")


def _csv_fields(path: Path, field: str) -> Iterator[object]:
    with records.opened(path, newline="") as file:
        yield from (row[field] for row in records.parsed_csv(file, str(path), [field]))
