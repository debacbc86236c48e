"""Intervals drawn into a table row: places in percent of a shared axis, for plain HTML boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.apps.report.numbers import Interval

MARGIN = 0.05  # of the axis, so that no end touches the edge


@dataclass(frozen=True)
class Bar:
    """Places on the axis in percent of its width: the ends of the interval, the estimate, and zero."""

    left: float
    width: float
    point: float
    zero: float


def bars(intervals: Sequence[Interval]) -> list[Bar | None]:
    """Place every interval on one axis that also holds zero; None where an interval is not complete."""
    ends = [end for item in intervals if item.complete for end in (item.low, item.high, item.value) if end is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    extent = (high - low) or 1.0
    low, extent = low - MARGIN * extent, extent * (1 + 2 * MARGIN)

    def place(value: float | None) -> float:
        return 0.0 if value is None else round(100 * (value - low) / extent, 2)

    return [
        Bar(place(item.low), round(place(item.high) - place(item.low), 2), place(item.value), place(0.0))
        if item.complete
        else None
        for item in intervals
    ]
