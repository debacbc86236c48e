"""Splits by content: what split a prompt is in follows from its own text alone.

The content hash is read as a point in [0, 1). Points below `eval_fraction` are the eval split, points from
1 - `dev_fraction` on are the dev split, the rest is the train split. Adding a row therefore never moves another. An
exact number of evaluation prompts cannot have this property, because a new row of low rank pushes another one out; so
the parameters are fractions, and for pinned data the numbers they give are as fixed as the data. The eval split grows
from one end and dev from the other: changing one fraction never exchanges rows between eval and dev.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.data.overlap import PromptIndex
from pipeline.data.schema import ID_DIGITS, PromptRow
from pipeline.errors import UserError

NAMES = ("train", "dev", "eval")


@dataclass(frozen=True)
class Splits:
    """The rows of each split, sorted by id, and how many rows were read and removed."""

    rows: dict[str, list[PromptRow]]
    read: int
    duplicates: int
    overlapping: int

    def summary(self) -> dict[str, Any]:
        """Return the counts as metrics."""
        return {
            "rows_read": self.read,
            "duplicates_removed": self.duplicates,
            "in_two_splits_removed": self.overlapping,
            "splits": {name: _described(rows) for name, rows in self.rows.items()},
        }


def split(rows: Sequence[PromptRow], eval_fraction: float, dev_fraction: float) -> Splits:
    """Remove repeated prompts and assign the rest to train, dev and eval; raise UserError when a split is empty.

    A prompt that stands inside one of another split, or around it, would let that split's answers leak: eval keeps
    its row before dev, and dev before train. Rows are only ever removed by this, never moved.
    """
    unique = _merged(rows)
    assigned: dict[str, list[PromptRow]] = {name: [] for name in NAMES}
    for row in unique:
        assigned[split_of(row.id, eval_fraction, dev_fraction)].append(row)
    kept = {
        "train": _apart(assigned["train"], assigned["eval"] + assigned["dev"]),
        "dev": _apart(assigned["dev"], assigned["eval"]),
        "eval": assigned["eval"],
    }
    for name, members in kept.items():
        if not members:
            raise UserError(
                f"data: the {name} split is empty ({len(unique)} different prompts); "
                "change data.eval_fraction or data.dev_fraction, or add prompts"
            )
    overlapping = len(unique) - sum(map(len, kept.values()))
    return Splits(kept, read=len(rows), duplicates=len(rows) - len(unique), overlapping=overlapping)


def split_of(row_id: str, eval_fraction: float, dev_fraction: float) -> str:
    """Return the split of a content hash: train, dev or eval."""
    point = int(row_id, 16) / 16**ID_DIGITS
    if point < eval_fraction:
        return "eval"
    return "dev" if point >= 1 - dev_fraction else "train"


def _merged(rows: Iterable[PromptRow]) -> list[PromptRow]:
    """Return one row of every id, with the categories of all of them, sorted by id.

    Of several spellings it is the one that sorts first, so that the order of the rows changes nothing.
    """
    spellings: dict[str, list[PromptRow]] = defaultdict(list)
    for row in rows:
        spellings[row.id].append(row)
    return [
        replace(min(same, key=_spelled), categories=sorted({category for row in same for category in row.categories}))
        for _, same in sorted(spellings.items())
    ]


def _spelled(row: PromptRow) -> list[tuple[bool, str]]:
    return [(text is None, text or "") for text in (row.prompt, row.demonstration, row.chosen, row.rejected)]


def _apart(rows: Iterable[PromptRow], others: Iterable[PromptRow]) -> list[PromptRow]:
    index = PromptIndex(row.prompt for row in others)
    return [row for row in rows if not index.overlaps(row.prompt)]


def _described(rows: Sequence[PromptRow]) -> dict[str, Any]:
    lengths = [len(row.prompt.split()) for row in rows]
    return {
        "prompts": len(rows),
        "demonstrations": sum(row.demonstration is not None for row in rows),
        "pairs": sum(row.chosen is not None and row.rejected is not None for row in rows),
        "categories": dict(Counter(category for row in rows for category in row.categories)),
        "words_mean": sum(lengths) / len(lengths),
        "words_max": max(lengths),
    }
