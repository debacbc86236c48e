"""Prompts in JSONL of our own: for a data set that needs no reader of its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pipeline.config.declarations import DataSet
from pipeline.config.fields import Name, Section, Share, Source
from pipeline.data.schema import PromptRow, check_fields, fraction_rules, prompt_row
from pipeline.io import records
from pipeline.io.errors import UserError


class JsonlData(Section):
    """Prompts that are split by their content: the range of content hashes is cut into eval, train and dev."""

    dataset: Literal["jsonl"]
    sources: dict[Name, Source]
    eval_fraction: Share
    dev_fraction: Share


SOURCE = "prompts"  # other sources of the experiment may hold JSONL too, such as labelled text for the judge
OPTIONAL = ("categories", "demonstrations", "chosen", "rejected")


def read(raw: Path, data: JsonlData) -> Iterator[tuple[PromptRow, str | None]]:
    """Yield every row of `raw/prompts/*.jsonl`, in the order of file names and lines.

    A row is `{"prompt": "…"}` with, where wanted, `categories` and `demonstrations` (lists of strings), `chosen` and
    `rejected` (strings or null). None is given a split. Raises UserError naming file and line of a row that is
    anything else.
    """
    files = sorted((raw / SOURCE).glob("*.jsonl"))
    if not files:
        raise UserError(f"{raw / SOURCE}: expected .jsonl files, found none; check data.sources.{SOURCE}")
    for file in files:
        rows = records.read_jsonl(file)
        if not rows:
            raise UserError(f"{file}: expected one JSON object a line, found none; {records.REMAKE}")
        for number, row in enumerate(rows, start=1):
            check_fields(row, f"{file}:{number}", required=("prompt",), optional=OPTIONAL)
            yield prompt_row(**row), None


DATASET = DataSet("jsonl", JsonlData, read, has_pairs=lambda data: True, rules=fraction_rules)
