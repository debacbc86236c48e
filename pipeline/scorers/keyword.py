"""The transparent scorer: counts keywords. For tests, and as a baseline that anyone can check by eye."""

from pipeline.config.sections import KeywordScorer
from pipeline.scorers.scoring import HitScorer, fingerprint


def load(name: str, config: KeywordScorer) -> HitScorer:
    """Return the scorer of these keywords; a hit is a keyword anywhere in the text, also inside a word, in any case."""
    keywords = sorted({keyword.casefold() for keyword in config.keywords})
    settings = {"kind": config.kind, "keywords": keywords, "saturation": config.saturation}

    def count(text: str) -> int:
        return sum(text.count(keyword) for keyword in keywords)

    return HitScorer(name, fingerprint(settings, files={}), count, config.saturation)
