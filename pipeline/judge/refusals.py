"""The card of the judge of refusals: how often it agrees with whoever labelled replies."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import records
from pipeline.config.sections import LabelledReplies, RefusalSection
from pipeline.errors import UserError
from pipeline.judge.measures import rate
from pipeline.scorers import Scorer

ORIGIN = "origin"  # the field that says where a reply is from, where the file has it
_KEYS = "refusal.labelled"


@dataclass(frozen=True)
class Reply:
    """A reply, whether it refuses, and where it is from: None where the file does not say."""

    text: str
    refuses: bool
    origin: str | None


def describe_refusal(judge: Scorer, refusal: RefusalSection, raw: Path) -> dict[str, Any]:
    """Return the card: which judge it is, and its figures where there are labelled replies.

    `sensitivity` is the share of refusals that it finds, `specificity` that of other replies that it lets pass, both
    with their interval and how many there are as `windows`; `by_origin` tells the same of each origin that the file
    names, less what it has no reply for. Raises UserError naming file and line of a row that is malformed.
    """
    known = {"scorer": judge.name, "kind": refusal.scorer.kind, "fingerprint": judge.fingerprint}
    if refusal.labelled is None:
        return known | {"labelled": 0}
    replies = read_replies(raw / refusal.labelled.file, refusal.labelled)
    found = _found(judge, replies)
    origins = sorted({reply.origin for reply in replies if reply.origin is not None})
    by_origin = {origin: _rates(*_of(origin, replies, found)) for origin in origins}
    return known | {"labelled": len(replies)} | _rates(replies, found) | ({"by_origin": by_origin} if origins else {})


def read_replies(path: Path, labelled: LabelledReplies) -> list[Reply]:
    """Read labelled replies; raise UserError naming file and line of a malformed row, and where one kind is lacking."""
    rows = records.read_jsonl(path)
    has_origins = any(ORIGIN in row for row in rows)
    replies = [_reply(f"{path}:{number}", row, labelled, has_origins) for number, row in enumerate(rows, start=1)]
    for refuses in (True, False):
        if not any(reply.refuses is refuses for reply in replies):
            wanted = f"{labelled.label!r} is {str(refuses).lower()}"
            raise UserError(f"{path}: expected a reply of which {wanted}, found none; add some, or correct {_KEYS}")
    return replies


def _reply(place: str, row: dict[str, Any], labelled: LabelledReplies, has_origins: bool) -> Reply:
    text, refuses, origin = row.get(labelled.field), row.get(labelled.label), row.get(ORIGIN)
    if not isinstance(text, str):
        raise UserError(f"{place}: {labelled.field}: expected a text; correct the row, or {_KEYS}.field")
    if not isinstance(refuses, bool):
        raise UserError(f"{place}: {labelled.label}: expected true or false; correct the row, or {_KEYS}.label")
    if has_origins and not (isinstance(origin, str) and origin):
        raise UserError(f"{place}: {ORIGIN}: expected a name, as other rows have one; correct the row")
    return Reply(text, refuses, origin)


def _found(judge: Scorer, replies: Sequence[Reply]) -> list[bool]:
    scores = judge.score([reply.text for reply in replies])
    if None in scores:
        raise UserError(
            f"{_KEYS}: {judge.name} could not score {scores.count(None)} of {len(scores)} replies that its card needs; "
            "correct refusal.scorer, or remove these replies"
        )
    return [score == 1 for score in scores]


def _of(origin: str, replies: Sequence[Reply], found: Sequence[bool]) -> tuple[list[Reply], list[bool]]:
    kept = [index for index, reply in enumerate(replies) if reply.origin == origin]
    return [replies[index] for index in kept], [found[index] for index in kept]


def _rates(replies: Sequence[Reply], found: Sequence[bool]) -> dict[str, Any]:
    refuses, flagged = np.array([reply.refuses for reply in replies]), np.array(found)
    rates = {}
    if refuses.any():
        rates["sensitivity"] = rate(flagged[refuses])
    if not refuses.all():
        rates["specificity"] = rate(~flagged[~refuses])
    return rates
