"""L1: data sets. One file a data set, one row schema, splits by content."""

from pathlib import Path

from pipeline.data import jsonl, realtoxicityprompts
from pipeline.data.schema import PromptRow, normalized, read_prompts, to_json

__all__ = ["PromptRow", "normalized", "read_prompts", "read_raw", "to_json"]

_READERS = {"jsonl": jsonl.read, "realtoxicityprompts": realtoxicityprompts.read}


def read_raw(dataset: str, raw: Path) -> list[PromptRow]:
    """Read the downloaded files of a data set, duplicates included; raise UserError naming a malformed row."""
    return list(_READERS[dataset](raw))
