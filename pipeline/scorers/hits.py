"""What the counting scorers share: so many hits in a text are so much toxicity."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass


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
