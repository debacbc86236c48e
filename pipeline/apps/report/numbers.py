"""Numbers as a reader sees them. A missing number is called missing, never shown as 0 or left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MISSING = "missing"
NOT_APPLICABLE = "–"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Interval:
    """An estimate between the ends of its interval; None where a number is missing."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def complete(self) -> bool:
        """Return whether there is an estimate with both ends."""
        return None not in (self.value, self.low, self.high)


def find(value: Any, *keys: str) -> Any:
    """Return what stands under nested keys, or None where one of them is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def interval(value: Any, *keys: str) -> Interval:
    """Return the interval under nested keys, all missing where it is not there."""
    found = find(value, *keys)
    return Interval(*(find(found, end) for end in ("value", "low", "high")))


def number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """Return a number with a true minus sign."""
    if value is None:
        return MISSING
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def percent(value: float | None, digits: int = 1, sign: bool = False) -> str:
    """Return a share as a percentage."""
    return MISSING if value is None else number(100 * value, digits, sign) + "\N{NO-BREAK SPACE}%"


def p_value(value: float | None) -> str:
    """Return a p-value with three digits, or that it is below them."""
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else number(value)


def ends(found: Interval, digits: int = 3, sign: bool = False, as_percent: bool = False) -> str:
    """Return the ends of an interval in brackets, nothing where the estimate itself is missing."""
    if found.value is None:
        return ""
    if found.low is None or found.high is None:
        return "[no interval]"
    factor = 100 if as_percent else 1
    return f"[{number(factor * found.low, digits, sign)}, {number(factor * found.high, digits, sign)}]"


def change(found: Interval, kind: str) -> tuple[str, str]:
    """Return a guard's change and its interval: a relative one as a percentage, an absolute one as it is."""
    if kind == "relative":
        return percent(found.value, sign=True), ends(found, digits=1, sign=True, as_percent=True)
    return number(found.value, sign=True), ends(found, sign=True)


def label(name: str) -> str:
    """Return a name of the data as words."""
    return name.replace("_", " ")
