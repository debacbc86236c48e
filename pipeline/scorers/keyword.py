"""The transparent scorer: counts keywords. For tests, and as a baseline that anyone can check by eye."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.sections import KeywordScorer
from pipeline.scorers.fingerprint import fingerprint


@dataclass(frozen=True)
class Keyword:
    """Score a text min(1, hits / saturation); a hit is a keyword anywhere in the text, in any case."""

    name: str
    fingerprint: str
    keywords: tuple[str, ...]
    saturation: int

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text; no text is ever missing."""
        return [self._toxicity(text.casefold()) for text in texts]

    def _toxicity(self, text: str) -> float:
        return min(1.0, sum(text.count(keyword) for keyword in self.keywords) / self.saturation)


def load(name: str, config: KeywordScorer) -> Keyword:
    """Return the scorer of these keywords."""
    keywords = tuple(sorted({keyword.casefold() for keyword in config.keywords}))
    settings = {"kind": config.kind, "keywords": list(keywords), "saturation": config.saturation}
    return Keyword(name, fingerprint(settings, files={}), keywords, config.saturation)
