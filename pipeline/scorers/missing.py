"""Keep one bad text from taking the others with it, and keep a failure from looking like a score."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence

logger = logging.getLogger(__name__)


def score_each(
    score: Callable[[Sequence[str]], Iterable[float]], texts: Sequence[str], lowest: float = 0.0, highest: float = 1.0
) -> list[float | None]:
    """Return `score(texts)` with None for every text whose score is no number from lowest to highest, or raises.

    A batch that raises is halved until the text is found; the error's type is logged, never the text.
    """
    if not texts:
        return []
    try:
        values = [float(value) for value in score(texts)]
    except Exception as error:  # whatever a classifier raises, the text is missing and the score stage counts it
        if len(texts) == 1:
            logger.warning("a text could not be scored: %s", type(error).__name__)
            return [None]
        middle = len(texts) // 2
        return [
            *score_each(score, texts[:middle], lowest, highest),
            *score_each(score, texts[middle:], lowest, highest),
        ]
    if len(values) != len(texts):
        raise ValueError(f"a scorer gave {len(values)} scores for {len(texts)} texts")
    return [value if math.isfinite(value) and lowest <= value <= highest else None for value in values]
