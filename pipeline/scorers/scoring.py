"""What scorers share: the digest that names one, texts that cannot be scored, and hits that are counted."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


def fingerprint(settings: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the SHA-256 over a scorer's settings and the digests of what it loads, as 64 hexadecimal digits."""
    text = json.dumps({"files": dict(files), "settings": dict(settings)}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


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


@dataclass(frozen=True)
class HitScorer:
    """Score a text min(1, hits / saturation); `count` gets the text case folded."""

    name: str
    fingerprint: str
    count: Callable[[str], int]
    saturation: int

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text; no text is ever missing."""
        return [min(1.0, self.count(text.casefold()) / self.saturation) for text in texts]

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return False for every text: all of it is read."""
        return [False] * len(texts)
