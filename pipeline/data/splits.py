"""Splits: the data set's own where it has any, by content elsewhere.

By content means that what split a prompt is in follows from its own text alone. The content hash is read as a point in
[0, 1). Points below `eval_fraction` are the eval split, points from 1 - `dev_fraction` on are the dev split, the rest
is the train split. Adding a row therefore never moves another. An exact number of evaluation prompts cannot have this
property, because a new row of low rank pushes another one out; so the parameters are fractions, and for pinned data the
numbers they give are as fixed as the data. The eval split grows from one end and dev from the other: changing one
fraction never exchanges rows between eval and dev.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.data import DATASETS
from pipeline.data.readers import Row, compared_text
from pipeline.data.schema import PromptRow, normalized, split_of
from pipeline.io.errors import UserError

# Of two splits the later one keeps a prompt that stands in both; from `demonstrations` the reference alone learns.
NAMES = ("demonstrations", "train", "dev", "eval")


@dataclass(frozen=True)
class Splits:
    """The rows of each split, sorted by id; how many were read and removed; how many of each split `data.most` cut."""

    rows: dict[str, list[PromptRow]]
    read: int
    duplicates: int
    overlapping: int
    beyond_most: dict[str, int]

    def summary(self) -> dict[str, Any]:
        """Return the counts as metrics."""
        return {
            "rows_read": self.read,
            "duplicates_removed": self.duplicates,
            "in_two_splits_removed": self.overlapping,
            "splits": {name: _described(rows) for name, rows in self.rows.items() if rows},
        }


def split(rows: Sequence[Row], data: Any) -> Splits:
    """Remove repeated prompts and assign the rest to the splits; raise UserError when train, dev or eval is empty.

    A row that is given a split is in that one, any other where its content puts it. A prompt that stands inside one of
    another split, or around it, would let that split's answers leak: eval keeps its row before dev, and dev before
    train and demonstrations. Rows are only ever removed by this, never moved. `data.most` then keeps those of lowest
    content hash.
    """
    assigned = _merged(rows, data)
    kept = {
        "demonstrations": _apart(assigned["demonstrations"], assigned["eval"] + assigned["dev"], data),
        "train": _apart(assigned["train"], assigned["eval"] + assigned["dev"], data),
        "dev": _apart(assigned["dev"], assigned["eval"], data),
        "eval": assigned["eval"],
    }
    unique = sum(map(len, assigned.values()))
    _refuse_empty(kept, unique, data)
    limited = {name: members[: DATASETS[data.dataset].most(data, name)] for name, members in kept.items()}
    return Splits(
        limited,
        read=len(rows),
        duplicates=len(rows) - unique,
        overlapping=unique - sum(map(len, kept.values())),
        beyond_most={name: len(kept[name]) - len(limited[name]) for name in NAMES},
    )


def _assigned(row: PromptRow, given: str | None, data: Any) -> str:
    if given is not None:
        return given
    if not DATASETS[data.dataset].splits_by_content:
        raise ValueError(f"{row.id}: the data set has splits of its own, and this row is given none")
    return split_of(row.id, data.eval_fraction, data.dev_fraction)


def _merged(rows: Iterable[Row], data: Any) -> dict[str, list[PromptRow]]:
    """Return one row of every id in the last split of NAMES that it stands in, sorted by id.

    It has the categories and the demonstrations of all its rows in that split. Of several spellings it is the one that
    sorts first, so that the order of the rows changes nothing.
    """
    spellings: dict[str, dict[str, list[PromptRow]]] = defaultdict(lambda: defaultdict(list))
    for row, given in rows:
        spellings[row.id][_assigned(row, given, data)].append(row)
    merged: dict[str, list[PromptRow]] = {name: [] for name in NAMES}
    for _, by_split in sorted(spellings.items()):
        name = max(by_split, key=NAMES.index)
        merged[name].append(_united(sorted(by_split[name], key=_spelled)))
    return merged


def _united(same: Sequence[PromptRow]) -> PromptRow:
    if len(same) == 1:
        return same[0]
    categories = sorted({category for row in same for category in row.categories})
    demonstrations = list(dict.fromkeys(text for row in same for text in row.demonstrations))
    return replace(same[0], categories=categories, demonstrations=demonstrations)


def _spelled(row: PromptRow) -> tuple[bool, str, list[str], list[tuple[bool, str]]]:
    answers = [(text is None, text or "") for text in (row.chosen, row.rejected)]
    # A row with a pair of answers goes before one without, whose spelling of the prompt would else lose them.
    return any(absent for absent, _ in answers), row.prompt, row.demonstrations, answers


def _apart(rows: Iterable[PromptRow], others: Iterable[PromptRow], data: Any) -> list[PromptRow]:
    index = PromptIndex(compared_text(row, data) for row in others)
    return [row for row in rows if not index.overlaps(compared_text(row, data))]


def _refuse_empty(kept: dict[str, list[PromptRow]], unique: int, data: Any) -> None:
    sizes = DATASETS[data.dataset].sizes
    for name, members in kept.items():
        if not members and name != "demonstrations":
            raise UserError(
                f"data: the {name} split is empty ({unique} different prompts); change {sizes}, or add prompts"
            )


def _described(rows: Sequence[PromptRow]) -> dict[str, Any]:
    lengths = [len(row.prompt.split()) for row in rows]
    return {
        "prompts": len(rows),
        "demonstrations": sum(len(row.demonstrations) for row in rows),
        "pairs": sum(row.chosen is not None and row.rejected is not None for row in rows),
        "categories": dict(Counter(category for row in rows for category in row.categories)),
        "words_mean": sum(lengths) / len(lengths),
        "words_max": max(lengths),
    }


SHORTEST = 5  # words; a shorter prompt stands inside others by chance


class PromptIndex:
    """The words of many prompts, found again by any run of five of them."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._by_run: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for prompt in prompts:
            words = _words(prompt)
            for run in _runs(words):
                self._by_run[run].add(" ".join(words))

    def overlaps(self, prompt: str) -> bool:
        """Return whether `prompt` contains a prompt of the index, or stands in one, as a run of at least 5 words."""
        words = _words(prompt)
        text = " ".join(words)
        candidates = {other for run in _runs(words) for other in self._by_run.get(run, ())}
        return any(f" {other} " in f" {text} " or f" {text} " in f" {other} " for other in candidates)


def _words(prompt: str) -> list[str]:
    return re.findall(r"\w+", normalized(prompt))


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    for start in range(len(words) - SHORTEST + 1):
        yield tuple(words[start : start + SHORTEST])
