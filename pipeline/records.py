"""L0: JSON, JSONL and CSV on disk: whole or not there, sorted keys, rounded numbers."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing, staged
from pipeline.errors import UserError

DIGITS = 6


def rounded(value: Any) -> Any:
    """Round every float in a nested value to 6 digits; a float that is not finite becomes None (missing)."""
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None  # + 0.0: no -0.0
    if isinstance(value, Mapping):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object with sorted keys and numbers rounded to 6 digits."""
    text = json.dumps(rounded(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object a line, in the order given, and return how many."""
    count = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(rounded(row), sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, numbers rounded to 6 digits and missing values empty; the first row gives the columns."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rounded(row) for row in rows)


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; raise UserError naming the file when it is absent or broken."""
    try:
        value = json.loads(staged(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro` (or `dvc pull`) to make it") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected one JSON object, got {error}; delete it and run `dvc repro`") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected one JSON object, got {type(value).__name__}")
    return value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line; raise UserError naming file and line when one is absent or broken."""
    rows: list[dict[str, Any]] = []
    try:
        with staged(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                rows.append(_parsed(path, number, line))
    except FileNotFoundError:
        raise UserError(f"{path}: not found; run `dvc repro` (or `dvc pull`) to make it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 text, got {error}; repair or re-download it") from None
    return rows


def _parsed(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{path}:{number}: expected one JSON object a line, got {error}; repair the row") from None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: expected a JSON object, got {type(row).__name__}; repair the row")
    return row
