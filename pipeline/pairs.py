"""L1: the chosen/rejected pair that SFT and DPO train on, as it stands in a preferences file."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.errors import UserError
from pipeline.records import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, as text and as the very token ids that were sampled (EOS only if emitted)."""

    prompt_id: str
    prompt: str
    prompt_ids: list[int]
    chosen: str
    chosen_ids: list[int]
    chosen_toxicity: float
    rejected: str
    rejected_ids: list[int]
    rejected_toxicity: float


def write_pairs(path: Path, pairs: Sequence[Pair]) -> None:
    """Write one pair a line, sorted by prompt id."""
    write_jsonl(path, (asdict(pair) for pair in sorted(pairs, key=lambda pair: pair.prompt_id)))


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs; raise UserError naming file and line when a row is not one, or when there is none."""
    expected = {field.name for field in fields(Pair)}
    pairs = []
    for number, row in enumerate(read_jsonl(path), start=1):
        if set(row) != expected:
            wrong = ", ".join(sorted(expected ^ set(row)))
            raise UserError(f"{path}:{number}: expected the keys of a pair, these are missing or unknown: {wrong}")
        pairs.append(Pair(**row))
    if not pairs:
        raise UserError(f"{path}: no pairs; lower preferences.margin or raise preferences.samples_per_prompt")
    return pairs
