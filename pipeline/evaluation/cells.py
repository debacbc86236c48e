"""The cells of a comparison table as text: numbers, estimates and intervals, the same on every sheet."""

from collections.abc import Mapping
from dataclasses import dataclass

MISSING = "missing"
Estimate = Mapping[str, float | None]


@dataclass(frozen=True)
class Sheet:
    """One table as text: its title, its header (with line breaks for narrow terminals) and one row a policy."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def number(value: float | None, digits: int = 3, sign: str = "") -> str:
    """Return a number, or that it is missing; `sign` is + for a difference."""
    return MISSING if value is None else f"{value:{sign}.{digits}f}"


def estimate(found: Estimate, wide: bool) -> str:
    """Return an estimate, with its interval where there is room for it."""
    return interval(found) if wide else number(found["value"])


def interval(found: Estimate, sign: str = "") -> str:
    """Return an estimate and the ends of its interval."""
    value, low, high = (number(found[end], sign=sign) for end in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def p_value(value: float | None) -> str:
    """Return a p-value with three digits, or that it is below them."""
    return MISSING if value is None else "<.001" if value < 0.001 else f"{value:.3f}"
