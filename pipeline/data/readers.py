"""Which reader turns the downloaded files of a data set into rows.

A reader is `read(raw, data)`, of the folder of raw files and the section `data`. It yields every row, duplicates
included, each with the split that the data set itself puts it in: train, dev or eval, or None where its content is to
decide. For what it leaves out it yields a `LeftOut` instead, so that it is counted. Raises UserError naming a malformed
row.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data import DATASETS
from pipeline.data.schema import LeftOut, PromptRow

Row = tuple[PromptRow, str | None]


@dataclass(frozen=True)
class RawRows:
    """The rows of a data set, each with the split that it is given (None: by its content), and what was left out."""

    rows: list[Row]
    left_out: dict[str, int]


def read_raw(data: Any, raw: Path) -> RawRows:
    """Read the downloaded files of a data set, duplicates included; raise UserError naming a malformed row."""
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    for item in DATASETS[data.dataset].read(raw, data):
        if isinstance(item, LeftOut):
            left_out[item.reason] += 1
        else:
            rows.append(item)
    return RawRows(rows, dict(left_out))


def compared_text(row: PromptRow, data: Any) -> str:
    """Return what of a prompt is the data set's own: an instruction around all of them would make all alike."""
    return DATASETS[data.dataset].compared(row, data)
