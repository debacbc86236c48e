"""L1: scorers. A scorer gives every text its toxicity in [0, 1]; a text that it cannot score is missing, never 0."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pipeline import paths
from pipeline.config.sections import (
    DetoxifyScorer,
    EmbeddingHeadScorer,
    KeywordScorer,
    ProfanityCheckScorer,
    RewardSection,
    SequenceClassifierScorer,
    WordListScorer,
)
from pipeline.config.sections import Scorer as ScorerConfig
from pipeline.scorers.reward import Reward

if TYPE_CHECKING:
    from pipeline.scorers.detoxify import DetoxifyHead
    from pipeline.scorers.embedding_head import EmbeddingHead
    from pipeline.scorers.hits import HitScorer
    from pipeline.scorers.profanity_check import ProfanityCheck
    from pipeline.scorers.sequence_classifier import SequenceClassifier

__all__ = ["Reward", "Scorer", "load_judges", "load_reward", "load_reward_scorer", "load_scorer"]


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

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what the scorer reads, so that only its beginning counts."""


def load_reward(reward: RewardSection, experiment: str) -> Reward:
    """Load the reward scorer with what is rewarded of it; raise UserError as `load_reward_scorer` does."""
    if reward.output == "toxicity":
        scorer = load_reward_scorer(reward, experiment)
        return Reward(reward, scorer, scorer.score)
    assert isinstance(reward.scorer, SequenceClassifierScorer), "the experiment file is refused otherwise"
    classifier = _sequence_classifier(reward.name, reward.scorer, _reward_folder(experiment))
    return Reward(reward, classifier, partial(classifier.output, reward.output))


def load_reward_scorer(reward: RewardSection, experiment: str) -> Scorer:
    """Load the scorer that trainings see, from its own folder: what the judges are and need does not matter to it.

    Raises UserError when its files are missing or not the pinned ones.
    """
    return load_scorer(reward.name, reward.scorer, _reward_folder(experiment), experiment)


def load_judges(
    names: Sequence[str], reward: RewardSection, scorers: Mapping[str, ScorerConfig], experiment: str
) -> list[Scorer]:
    """Load the scorers of these names in this order, the reward scorer where a name is its.

    Raises UserError when files of one are missing or not the pinned ones.
    """
    return [
        load_reward_scorer(reward, experiment)
        if name == reward.name
        else load_scorer(name, scorers[name], paths.scorers(experiment) / name, experiment)
        for name in names
    ]


def load_scorer(name: str, config: ScorerConfig, folder: Path, experiment: str) -> Scorer:
    """Load the scorer `name` whose downloaded files, where its kind has any, lie in `folder`.

    Raises UserError when they are missing or not the pinned ones.
    """
    match config:
        case KeywordScorer():
            return _keyword(name, config)
        case WordListScorer():
            return _word_list(name, config, folder)
        case ProfanityCheckScorer():
            return _profanity_check(name, config)
        case EmbeddingHeadScorer():
            return _embedding_head(name, config, folder, experiment)
        case SequenceClassifierScorer():
            return _sequence_classifier(name, config, folder)
        case DetoxifyScorer():
            return _detoxify(name, config, folder)


def _reward_folder(experiment: str) -> Path:
    return paths.reward(experiment) / "scorer"


# Imported late: a stage with one scorer does not wait for the libraries of the others.


def _keyword(name: str, config: KeywordScorer) -> "HitScorer":
    from pipeline.scorers import keyword

    return keyword.load(name, config)


def _word_list(name: str, config: WordListScorer, folder: Path) -> "HitScorer":
    from pipeline.scorers import word_list

    return word_list.load(name, config, folder)


def _profanity_check(name: str, config: ProfanityCheckScorer) -> "ProfanityCheck":
    from pipeline.scorers import profanity_check

    return profanity_check.load(name, config)


def _embedding_head(name: str, config: EmbeddingHeadScorer, folder: Path, experiment: str) -> "EmbeddingHead":
    from pipeline.scorers import embedding_head

    return embedding_head.load(name, config, folder, experiment)


def _sequence_classifier(name: str, config: SequenceClassifierScorer, folder: Path) -> "SequenceClassifier":
    from pipeline.scorers import sequence_classifier

    return sequence_classifier.load(name, config, folder)


def _detoxify(name: str, config: DetoxifyScorer, folder: Path) -> "DetoxifyHead":
    from pipeline.scorers import detoxify

    return detoxify.load(name, config, folder)
