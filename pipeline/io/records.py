"""JSON, JSONL and CSV on disk: whole or not there, sorted keys, rounded numbers."""

import csv
import io
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pipeline.io.atomic import replacing, staged
from pipeline.io.errors import UserError

DIGITS = 6
LONGEST_LINE = 16 * 2**20  # characters: no row of ours comes near, and a file without line ends is not read whole
MAKE = "run `dvc repro` (or `dvc pull`) to make it"
REMAKE = f"delete it and {MAKE} again"


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
    with replacing(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def json_text(value: Mapping[str, Any]) -> str:
    """Return what `write_json` writes."""
    return json.dumps(rounded(value), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


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
    with replacing(path) as temporary:
        temporary.write_text(csv_text(rows), encoding="utf-8", newline="")


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what `write_csv` writes."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rounded(row) for row in rows)
    return text.getvalue()


@contextmanager
def opened(path: Path, remedy: str = REMAKE, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file for reading.

    Raises UserError when it is absent, and naming `remedy` when it is no regular file, unreadable, or not plain UTF-8.
    """
    place = staged(path)
    try:
        if place.exists() and not place.is_file():
            kind = "a folder" if place.is_dir() else "a pipe or a device"
            raise UserError(f"{path}: expected a file, found {kind}; {remedy}")
        with place.open(encoding="utf-8", newline=newline) as file:
            if file.read(1) == "\ufeff":
                raise UserError(f"{path}: expected UTF-8 text without a byte order mark, found one; {remedy}")
            file.seek(0)
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {MAKE}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected UTF-8 text, got {_no_utf8(place)}; {remedy}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None


def _no_utf8(path: Path) -> str:
    """Return the first byte that is no UTF-8 and its line; Python counts from where it happened to begin to read."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            number += 1
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"the byte 0x{line[error.start]:02x} in line {number}"
    return "other bytes"


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object; raise UserError naming the file when it is absent or broken."""
    with opened(path) as file:
        text = file.read()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: expected one JSON object, got {error}; {REMAKE}") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected one JSON object, got {type(value).__name__}; {REMAKE}")
    return value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read one JSON object a line; raise UserError naming file and line when one is absent or broken."""
    with opened(path) as file:
        return [_parsed(f"{path}:{number}", line) for number, line in enumerate(lines(file, path), start=1)]


def lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of a file that was opened, each with its end; raise UserError at one longer than 16 MiB."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise UserError(
                f"{path}:{number}: expected lines of at most {LONGEST_LINE:,} characters; repair or remove the row"
            )
        yield line


def parsed_csv(file: Iterable[str], place: str, columns: Collection[str], remedy: str = REMAKE) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header of at least these columns.

    Raises UserError naming `place`, and the line, when a column is missing or there twice, when a row has not a field
    for every column, and when quotes do not match.
    """
    reader = csv.DictReader(file, strict=True)
    try:
        found = list(reader.fieldnames or [])
        problems = [f"column {name!r} is missing" for name in columns if name not in found]
        problems += [f"column {name[:80]!r} stands there twice" for name in found if found.count(name) > 1]
        if problems:
            raise UserError(f"{place}: {problems[0]}; {remedy}")
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise UserError(f"{place}:{reader.line_num}: expected {len(found)} fields; {remedy}")
            rows.append(row)
        return rows
    except csv.Error as error:
        raise UserError(f"{place}:{reader.reader.line_num}: expected CSV, got {error}; {remedy}") from None


def finite(text: str, place: str, remedy: str = REMAKE) -> float | None:
    """Return the number that a field of CSV holds, None where it is empty; raise UserError when it is not a number."""
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise UserError(f"{place}: expected a number, got {text[:80]!r}; {remedy}")
    return value


def _parsed(place: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line.removesuffix("\n"), object_pairs_hook=_unique, parse_constant=_not_finite)
        if "\\ud" in line.lower():
            json.dumps(row, ensure_ascii=False).encode("utf-8")  # half a character, written as an escape
    except UnicodeEncodeError:
        raise UserError(f"{place}: expected whole characters, got half of a surrogate pair; repair the row") from None
    except (ValueError, RecursionError) as error:
        found = str(error).replace("line 1 column", "column") if line.strip() else "an empty line"
        raise UserError(f"{place}: expected one JSON object a line, got {found}; repair or remove the row") from None
    if not isinstance(row, dict):
        raise UserError(f"{place}: expected a JSON object, got {type(row).__name__}; repair or remove the row")
    return row


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        raise ValueError("a key that stands there twice")
    return row


def _not_finite(name: str) -> None:
    raise ValueError(f"{name}, which is no JSON")
