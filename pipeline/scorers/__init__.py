"""L1: scorers. A scorer gives every text its toxicity in [0, 1]; a text that it cannot score is missing, never 0."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pipeline.config.sections import EmbeddingHeadScorer, KeywordScorer, ProfanityCheckScorer
from pipeline.config.sections import Scorer as ScorerConfig

if TYPE_CHECKING:
    from pipeline.scorers.embedding_head import EmbeddingHead
    from pipeline.scorers.keyword import Keyword
    from pipeline.scorers.profanity_check import ProfanityCheck

__all__ = ["Scorer", "load_scorer"]


class Scorer(Protocol):
    """A classifier of text."""

    @property
    def name(self) -> str:
        """Return the scorer's name in the experiment file."""

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 over everything that determines the scores: weights, settings, tokenizer."""

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text, in order; None where a text could not be scored.

        An empty text is scored like any other.
        """


def load_scorer(name: str, config: ScorerConfig, experiment: str) -> Scorer:
    """Load the scorer `name` of an experiment; raise UserError when its files are missing or not the pinned ones."""
    match config:
        case KeywordScorer():
            return _keyword(name, config)
        case ProfanityCheckScorer():
            return _profanity_check(name, config)
        case EmbeddingHeadScorer():
            return _embedding_head(name, config, experiment)


# Imported late: a stage with one scorer does not wait for the libraries of the others.


def _keyword(name: str, config: KeywordScorer) -> "Keyword":
    from pipeline.scorers import keyword

    return keyword.load(name, config)


def _profanity_check(name: str, config: ProfanityCheckScorer) -> "ProfanityCheck":
    from pipeline.scorers import profanity_check

    return profanity_check.load(name, config)


def _embedding_head(name: str, config: EmbeddingHeadScorer, experiment: str) -> "EmbeddingHead":
    from pipeline.scorers import embedding_head

    return embedding_head.load(name, config, experiment)
