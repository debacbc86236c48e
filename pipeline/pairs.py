"""L1: the chosen/rejected pair that SFT and DPO train on, as it stands in a preferences file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.errors import UserError
from pipeline.records import read_jsonl, write_jsonl


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
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
    pairs = []
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            pairs.append(Pair(**row))
        except ValidationError as error:
            keys = ", ".join(sorted({str(item["loc"][0]) for item in error.errors()}))
            raise UserError(
                f"{path}:{number}: expected a pair, these keys are missing, unknown or of the wrong type: {keys}; "
                "run `dvc repro` to make the file anew"
            ) from None
    if not pairs:
        raise UserError(f"{path}: no pairs; lower preferences.margin or raise preferences.samples_per_prompt")
    return pairs
