"""Which reader turns the downloaded files of a data set into rows."""

from pathlib import Path

from pipeline.data import jsonl, realtoxicityprompts
from pipeline.data.schema import PromptRow

_READERS = {"jsonl": jsonl.read, "realtoxicityprompts": realtoxicityprompts.read}


def read_raw(dataset: str, raw: Path) -> list[PromptRow]:
    """Read the downloaded files of a data set, duplicates included; raise UserError naming a malformed row."""
    return list(_READERS[dataset](raw))
