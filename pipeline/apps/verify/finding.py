"""One thing that was looked at: as recorded, missing, or different."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.io.errors import shortened
from pipeline.tracking.model_card import without_words
from pipeline.tracking.provenance import flattened

OK, MISSING, DIFFERENT = "ok", "missing", "different"
STATES = (OK, MISSING, DIFFERENT)
NAMED = 3  # of the keys that differ


@dataclass(frozen=True)
class Finding:
    """What was found of one recorded thing; `pullable` where it is missing because DVC's outputs are not here yet."""

    group: str
    what: str
    state: str = OK
    expected: str = ""
    found: str = ""
    remedy: str = ""
    pullable: bool = False


@dataclass(frozen=True)
class Difference:
    """One leaf of a nested value that is not what it was, as text."""

    key: str
    expected: str
    found: str


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """Yield every dotted key whose value differs, sorted; of lists of words only the length is shown."""
    before, after = flattened(expected), flattened(found)
    absent = object()
    for key in sorted({*before, *after}):
        if before.get(key, absent) != after.get(key, absent):
            yield Difference(key, _text(key, before), _text(key, after))


def in_words(found: Iterable[Difference]) -> tuple[str, str]:
    """Return the first differences as two texts, what was expected and what was found."""
    listed = list(found)
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    expected = ", ".join(f"{one.key} {one.expected}" for one in listed[:NAMED])
    return expected, ", ".join(f"{one.key} {one.found}" for one in listed[:NAMED]) + more


def _text(key: str, values: Mapping[str, Any]) -> str:
    if key not in values:
        return "absent"
    value = without_words(key, values[key])
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))
