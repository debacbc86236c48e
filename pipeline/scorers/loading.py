"""Load scorers by their sections: the reward with what is rewarded of it, the judges, the judge of refusals."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from pipeline.config.sections import (
    DetoxifyScorer,
    EmbeddingHeadScorer,
    EnsembleScorer,
    KeywordScorer,
    ProfanityCheckScorer,
    RefusalSection,
    RewardSection,
    SequenceClassifierScorer,
    WordListScorer,
)
from pipeline.config.sections import Scorer as ScorerConfig
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.scorers.reward import Output, Reward

if TYPE_CHECKING:
    from pipeline.scorers.detoxify import DetoxifyHead
    from pipeline.scorers.embedding_head import EmbeddingHead
    from pipeline.scorers.ensemble import Ensemble
    from pipeline.scorers.profanity_check import ProfanityCheck
    from pipeline.scorers.scoring import HitScorer
    from pipeline.scorers.sequence_classifier import SequenceClassifier

__all__ = ["Reward", "Scorer", "load_judges", "load_refusal", "load_reward", "load_reward_scorer", "load_scorer"]


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


@runtime_checkable
class LogitScorer(Scorer, Protocol):
    """A scorer whose logits can be rewarded."""

    def output(self, kind: Output, texts: Sequence[str]) -> list[float | None]:
        """Return the logit or log-odds of every text, higher where it is more toxic; None where there is no number."""


def load_reward(reward: RewardSection, experiment: str) -> Reward:
    """Load the reward scorer with what is rewarded of it.

    Raises UserError as `load_reward_scorer` does, and where rewarded logits put six clear sentences in a wrong order:
    a label's logit alone need not have the order of its probability.
    """
    scorer = load_reward_scorer(reward, experiment)
    if reward.output == "toxicity":
        return Reward(reward, scorer, scorer.score)
    assert isinstance(scorer, LogitScorer), "the experiment file is refused otherwise"
    output = partial(scorer.output, reward.output)
    what = f"{_reward_folder(experiment)}: the scorer {reward.name!r}"
    check_order(what, output, "`reward.output`", measure=reward.output.replace("_", "-"))
    return Reward(reward, scorer, output)


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


def load_refusal(refusal: RefusalSection) -> Scorer:
    """Load the judge of refusals: what it scores is no toxicity, but 1 where a text declines to answer, else 0."""
    from pipeline.scorers import refusal_phrases

    return refusal_phrases.load(refusal.scorer)


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
        case EnsembleScorer():
            return _ensemble(name, config, folder, experiment)


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


def _ensemble(name: str, config: EnsembleScorer, folder: Path, experiment: str) -> "Ensemble":
    from pipeline.scorers.ensemble import Member, combine

    members = {
        member: Member(entry.weight, load_scorer(member, entry.scorer, folder / member, experiment))
        for member, entry in config.members.items()
    }
    return combine(name, members)


HOSTILE = (
    "I hate you, you disgusting and worthless person.",
    "You are so stupid that nobody could ever like you. Shut up!",
    "Those people are filthy animals, and I hope that they all suffer.",
)
KIND = (
    "Thank you so much for your help, that was very kind of you.",
    "What a lovely morning! I hope that you enjoy your walk.",
    "We are happy to have you here, and your work is wonderful.",
)


def check_order(
    what: str,
    score: Callable[[Sequence[str]], Sequence[float | None]],
    settings: str,
    measure: str = "toxicity",
) -> None:
    """Raise UserError, naming the scorer as `what`, unless every hostile sentence is more toxic than every kind one.

    `settings` names the keys that could be wrong, `measure` what `score` gives: higher where a text is more toxic.
    """
    toxicity = score([*HOSTILE, *KIND])
    hostile, kind = toxicity[: len(HOSTILE)], toxicity[len(HOSTILE) :]
    known = [value for value in toxicity if value is not None]
    if len(known) == len(toxicity) and min(known[: len(hostile)]) > max(known[len(hostile) :]):
        return
    raise UserError(
        f"{what} looks wrong: its {measure} of three plainly hostile English sentences is {_shown(hostile)}, of three "
        f"plainly kind ones {_shown(kind)}, where every hostile one should be above every kind one; check that it "
        f"reads English, and correct {settings}, or choose another scorer"
    )


def _shown(values: Sequence[float | None]) -> str:
    return ", ".join("missing" if value is None else f"{value:.3g}" for value in values)
