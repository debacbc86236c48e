"""The one row of formatted data: a prompt named by its content, with whatever its data set gives beside it."""

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline import records
from pipeline.errors import UserError

ID_DIGITS = 16  # hexadecimal digits of the content hash: 64 bits


@dataclass(frozen=True)
class PromptRow:
    """One prompt; `demonstration`, `chosen` and `rejected` are None where the data set has none."""

    id: str
    prompt: str
    categories: list[str]
    demonstration: str | None
    chosen: str | None
    rejected: str | None


def normalized(text: str) -> str:
    """Return the form in which two texts count as the same: NFC, case folded, one space between words."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def content_id(prompt: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the normalized prompt."""
    return hashlib.sha256(normalized(prompt).encode("utf-8")).hexdigest()[:ID_DIGITS]


def prompt_row(
    prompt: str,
    categories: Iterable[str] = (),
    demonstration: str | None = None,
    chosen: str | None = None,
    rejected: str | None = None,
) -> PromptRow:
    """Return the row of a prompt, with its id and its categories sorted and without repetition."""
    return PromptRow(content_id(prompt), prompt, sorted(set(categories)), demonstration, chosen, rejected)


def to_json(row: PromptRow) -> dict[str, Any]:
    """Return a row as the JSON object that `read_prompts` reads."""
    return asdict(row)


def read_prompts(path: Path) -> list[PromptRow]:
    """Read one split; raise UserError naming file and line when a row is not exactly a PromptRow."""
    names = [field.name for field in fields(PromptRow)]
    rows = []
    for number, value in enumerate(records.read_jsonl(path), start=1):
        check_fields(value, f"{path}:{number}", required=names)
        row = PromptRow(**value)
        if row.id != content_id(row.prompt):
            raise UserError(f"{path}:{number}: id: expected the prompt's content hash; run `dvc repro` to rebuild it")
        rows.append(row)
    return rows


def check_fields(row: Mapping[str, Any], place: str, required: Collection[str], optional: Collection[str] = ()) -> None:
    """Raise UserError at `place` (file:line) listing every key that is missing, unknown or of the wrong type.

    All keys are those of PromptRow; a prompt with no visible character is refused.
    """
    problems = [f"{key}: missing" for key in required if key not in row]
    for key, value in sorted(row.items()):
        if key not in required and key not in optional:
            known = ", ".join([*required, *optional])
            problems.append(f"{key}: unknown key, expected {known}")
        elif not _is_valid(key, value):
            problems.append(f"{key}: expected {_expected(key)}, got {type(value).__name__}")
    if not problems and not row["prompt"].strip():
        problems.append("prompt: expected text, got only whitespace")
    if problems:
        raise UserError(f"{place}: {'; '.join(problems)}; repair or remove the row")


def _is_valid(key: str, value: object) -> bool:
    if key == "categories":
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key in ("id", "prompt"):
        return isinstance(value, str)
    return value is None or isinstance(value, str)


def _expected(key: str) -> str:
    if key == "categories":
        return "a list of strings"
    return "a string" if key in ("id", "prompt") else "a string or null"
