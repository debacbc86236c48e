"""The transparent scorer: counts keywords. For tests, and as a baseline that anyone can check by eye."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Count, Section, Text
from pipeline.scorers.scoring import HitScorer, fingerprint


class KeywordScorer(Section):
    """Share of keyword hits: min(1, hits / saturation). For tests and as a transparent baseline."""

    kind: Literal["keyword"]
    keywords: Annotated[list[Text], Field(min_length=1)]
    saturation: Count


def load(name: str, config: KeywordScorer, *_: object) -> HitScorer:
    """Return the scorer of these keywords; a hit is a keyword anywhere in the text, also inside a word, in any case."""
    keywords = sorted({keyword.casefold() for keyword in config.keywords})
    settings = {"kind": config.kind, "keywords": keywords, "saturation": config.saturation}

    def count(text: str) -> int:
        return sum(text.count(keyword) for keyword in keywords)

    return HitScorer(name, fingerprint(settings, files={}), count, config.saturation)


SCORER = ScorerKind("keyword", KeywordScorer, load, bytes=lambda section: 0)
