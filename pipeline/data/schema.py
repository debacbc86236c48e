"""The one row of formatted data: a prompt named by its content, with whatever its data set gives beside it."""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.io import records
from pipeline.io.errors import UserError, shortened

ID_DIGITS = 16  # hexadecimal digits of the content hash: 64 bits
LONGEST = 100_000  # characters of one text, far beyond what any model here can read
MOST_PROBLEMS = 10  # of one row that are told
LABELS = ("hostile", "benign")  # of which every chat message has one, as a category
_LISTS = ("categories", "demonstrations")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class PromptRow:
    """One prompt; `chosen` and `rejected` are None where the data set has none.

    `demonstrations` are what people wrote in answer to it: the first is trained on, all of them are compared to.
    """

    id: str
    prompt: str
    categories: list[str]
    demonstrations: list[str]
    chosen: str | None
    rejected: str | None


@dataclass(frozen=True)
class LeftOut:
    """A row that a reader does not take, and why, in a word for the counts of metrics/<experiment>/format.json."""

    reason: str


def normalized(text: str) -> str:
    """Return the form in which two texts count as the same: NFC, case folded, one space between words."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def content_id(prompt: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of the normalized prompt."""
    return hashlib.sha256(normalized(prompt).encode("utf-8")).hexdigest()[:ID_DIGITS]


def split_of(row_id: str, eval_fraction: float, dev_fraction: float) -> str:
    """Return the split of a content hash: train, dev or eval."""
    point = point_of(row_id)
    if point < eval_fraction:
        return "eval"
    return "dev" if point >= 1 - dev_fraction else "train"


def point_of(row_id: str) -> float:
    """Return a content hash as a point in [0, 1)."""
    return int(row_id, 16) / 16**ID_DIGITS


def fraction_rules(file: Any) -> Iterator[str]:
    """Yield what is wrong with the fractions of a data set whose prompts are split by their content alone."""
    if file.data.eval_fraction + file.data.dev_fraction >= 1:
        yield (
            "data.eval_fraction: expected less than 1 together with data.dev_fraction; the rest is the train split; "
            "lower one of them"
        )


def prompt_row(
    prompt: str,
    categories: Iterable[str] = (),
    demonstrations: Iterable[str] = (),
    chosen: str | None = None,
    rejected: str | None = None,
) -> PromptRow:
    """Return the row of a prompt, with its id and its categories sorted and without repetition."""
    return PromptRow(content_id(prompt), prompt, sorted(set(categories)), list(demonstrations), chosen, rejected)


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

    All keys are those of PromptRow; a prompt must be text that `damage` finds nothing in.
    """
    problems = [f"{key}: missing" for key in required if key not in row]
    for key, value in sorted(row.items()):
        if key not in required and key not in optional:
            known = ", ".join([*required, *optional])
            problems.append(f"{shortened(key)}: unknown key, expected {known}")
        elif not _is_valid(key, value):
            problems.append(f"{key}: expected {_expected(key)}, got {_kind(value)}")
        elif damaged := _damage(key, value):
            problems.append(f"{key}: expected text, got {damaged}")
    if problems:
        found = "; ".join(problems[:MOST_PROBLEMS]) + ("; …" if len(problems) > MOST_PROBLEMS else "")
        raise UserError(f"{place}: {found}; repair or remove the row")


def damage(text: str) -> str | None:
    """Return what makes a text no text that a person can have written, None where it is sound."""
    if len(text) > LONGEST:
        return f"{len(text):,} characters, more than {LONGEST:,}"
    if "\0" in text:
        return "a NUL character"
    if not text.isascii() and _SURROGATE.search(text):
        return "half of a surrogate pair"
    if not text.strip():
        return "only whitespace"
    if all(unicodedata.category(character)[0] in "CZ" for character in text):
        return "no visible character"
    return None


def _damage(key: str, value: object) -> str | None:
    """Return what is wrong with a value of the right type."""
    if key in _LISTS and isinstance(value, list):
        return next((found for item in value if (found := damage(item))), None)
    if key == "prompt" or (isinstance(value, str) and value):  # a text that is given may be empty, a prompt may not
        return damage(str(value))
    return None


def _is_valid(key: str, value: object) -> bool:
    if key in _LISTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key in ("id", "prompt"):
        return isinstance(value, str)
    return value is None or isinstance(value, str)


def _expected(key: str) -> str:
    if key in _LISTS:
        return "a list of strings"
    return "a string" if key in ("id", "prompt") else "a string or null"


def _kind(value: object) -> str:
    if isinstance(value, list) and value:
        return f"list of {', '.join(sorted({type(item).__name__ for item in value}))}"
    return type(value).__name__
