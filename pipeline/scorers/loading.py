"""Load scorers by their sections: the reward with what is rewarded of it, the judges, the judge of refusals."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config.fields import Source
from pipeline.config.sections import RefusalSection, RewardSection
from pipeline.io import paths
from pipeline.scorers import SCORERS
from pipeline.scorers.reward import Reward
from pipeline.scorers.scoring import LogitScorer, Scorer, check_order


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
    names: Sequence[str], reward: RewardSection, scorers: Mapping[str, Any], experiment: str
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


def load_scorer(name: str, section: Any, folder: Path, experiment: str) -> Scorer:
    """Load the scorer `name` whose downloaded files, where its kind has any, are in `folder`.

    Raises UserError when they are missing or not the pinned ones.
    """
    scorer: Scorer = SCORERS[section.kind].load(name, section, folder, experiment)
    return scorer


def sources_of(scorers: Mapping[str, Any]) -> dict[str, Source]:
    """Return the sources of those scorers that have files to fetch, by folder: <name>, or <name>/<part> of several.

    A member of an ensemble has its own in <name>/<member>.
    """
    return {
        f"{name}/{part}" if part else name: source
        for name, section in single_scorers(scorers)
        for part, source in SCORERS[section.kind].sources(section).items()
    }


def single_scorers(scorers: Mapping[str, Any], between: str = "/") -> Iterator[tuple[str, Any]]:
    """Yield every scorer with its name, and in the place of an ensemble its members, as <name><between><member>."""
    for name, section in scorers.items():
        if members := SCORERS[section.kind].members(section):
            yield from ((f"{name}{between}{member}", scorer) for member, scorer in members.items())
        else:
            yield name, section


def _reward_folder(experiment: str) -> Path:
    return paths.reward(experiment) / "scorer"
