"""The chosen/rejected pair that methods train on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.io.errors import UserError, shortened, shown
from pipeline.io.records import read_jsonl, write_jsonl
from pipeline.policy.demonstrations import Example


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Pair:
    """Two completions of one prompt, as text and as token ids: the very ids that were sampled (EOS only if emitted), or
    those of a data set's answers with EOS. A toxicity is None where it is not known; what people chose may be the more
    toxic answer.
    """

    prompt_id: str
    prompt: str
    prompt_ids: list[int]
    chosen: str
    chosen_ids: list[int]
    chosen_toxicity: float | None
    rejected: str
    rejected_ids: list[int]
    rejected_toxicity: float | None


_IDS, _TEXT, _TOXICITY = "a list of whole numbers", "a text", "a number from 0 to 1 or null"
_EXPECTED = {
    field.name: _IDS if field.name.endswith("_ids") else _TOXICITY if field.name.endswith("_toxicity") else _TEXT
    for field in fields(Pair)
}
_REMEDY = "remove the row or run `dvc repro` to make the file anew"


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write one pair a line, sorted by prompt id."""
    write_jsonl(path, (asdict(pair) for pair in sorted(pairs, key=lambda pair: pair.prompt_id)))


def read_pairs(path: Path, vocabulary: int | None = None, context: int | None = None) -> list[Pair]:
    """Read pairs; raise UserError naming file and line when a row is not one, or when there is none.

    Token ids are below `vocabulary`; prompt and completion together have at most `context` tokens; None: any.
    """
    pairs = []
    lines: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            pair = Pair(**row)
        except ValidationError as error:
            found = "; ".join(dict.fromkeys(_told(item["type"], str(item["loc"][0]), row) for item in error.errors()))
            raise UserError(f"{path}:{number}: {found}; {_REMEDY}") from None
        problem = _problem(pair, vocabulary, context)
        if problem is None and lines.setdefault(_content(pair), number) != number:
            problem = f"the same pair stands in line {lines[_content(pair)]}"
        if problem is not None:
            raise UserError(f"{path}:{number}: {problem}; {_REMEDY}")
        pairs.append(pair)
    if not pairs:
        raise UserError(
            f"{path}: no pairs; lower preferences.margin or raise preferences.samples_per_prompt, or, where they are a "
            "data set's, raise preferences.max_completion_tokens"
        )
    return pairs


def chosen(pairs: Sequence[Pair]) -> list[Example]:
    """Return the chosen completion of every pair, by the very ids that were sampled."""
    return [Example(pair.prompt_ids, pair.chosen_ids) for pair in pairs]


def _told(kind: str, key: str, row: Mapping[str, Any]) -> str:
    """Return what is wrong with a key, and nothing of what the texts say."""
    if kind == "unexpected_keyword_argument":
        return f"{shortened(key)}: unknown key, expected {', '.join(_EXPECTED)}"
    if key not in row:
        return f"{key}: missing"
    return f"{key}: expected {_EXPECTED[key]}, got {_kind(row[key])}"


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list with {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
    return type(value).__name__


def _problem(pair: Pair, vocabulary: int | None, context: int | None) -> str | None:
    """Return what keeps a pair from being trained on, None where nothing does."""
    for key in ("prompt_ids", "chosen_ids", "rejected_ids"):
        ids: list[int] = getattr(pair, key)
        if not ids:
            return f"{key}: expected token ids, got none"
        wrong = next((token for token in ids if token < 0 or (vocabulary is not None and token >= vocabulary)), None)
        if wrong is not None:
            known = "" if vocabulary is None else f" and below the {vocabulary} that the model knows"
            return f"{key}: expected token ids from 0{known}, got {shown(wrong)}"
    tokens = len(pair.prompt_ids) + max(len(pair.chosen_ids), len(pair.rejected_ids))
    if context is not None and tokens > context:
        return (
            f"prompt_ids: {tokens} tokens of prompt and completion are more than the {context} that the model can read"
        )
    if pair.chosen_ids == pair.rejected_ids:
        return "rejected_ids: expected another completion than chosen_ids, got the same"
    for key in ("chosen_toxicity", "rejected_toxicity"):
        toxicity: float | None = getattr(pair, key)
        if toxicity is not None and not 0 <= toxicity <= 1:
            return f"{key}: expected {_TOXICITY}, got {shown(toxicity)}"
    return None


def _content(pair: Pair) -> tuple[str, ...]:
    return (pair.prompt_id, str(pair.prompt_ids), str(pair.chosen_ids), str(pair.rejected_ids))
