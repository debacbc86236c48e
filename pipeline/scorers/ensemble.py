"""Several scorers as one: the mean of their toxicity by weight.

A policy that learns to please one classifier alone finds its errors; an average lessens that (Coste et al. 2024, mean
optimisation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from pipeline.config.declarations import ScorerKind
from pipeline.config.fields import Name, PositiveFloat, Section
from pipeline.scorers.scoring import Scorer, fingerprint

if TYPE_CHECKING:
    SingleScorer = Section  # any scorer but an ensemble: config/schema.py knows which there are


class EnsembleMember(Section):
    """One scorer of an ensemble and how much it counts."""

    weight: PositiveFloat
    scorer: "SingleScorer"


class EnsembleScorer(Section):
    """Several scorers as one: its toxicity is the mean of theirs by weight, missing where one of them is."""

    kind: Literal["ensemble"]
    members: Annotated[dict[Name, EnsembleMember], Field(min_length=2)]


@dataclass(frozen=True)
class Member:
    """A scorer of an ensemble and how much it counts."""

    weight: float
    scorer: Scorer


@dataclass(frozen=True)
class Ensemble:
    """Score a text with sum(weight x toxicity) / sum(weight) over the members."""

    name: str
    fingerprint: str
    members: tuple[Member, ...]

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text; None where one member has none: the others are no stand-in."""
        columns = [member.scorer.score(texts) for member in self.members]
        return [self._mean(row) for row in zip(*columns, strict=True)]

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what one of the members reads."""
        columns = [member.scorer.cut(texts) for member in self.members]
        return [any(row) for row in zip(*columns, strict=True)]

    def _mean(self, toxicity: Sequence[float | None]) -> float | None:
        total = weights = 0.0
        for member, value in zip(self.members, toxicity, strict=True):
            if value is None:
                return None
            total += member.weight * value
            weights += member.weight
        return min(1.0, total / weights)  # rounding may leave a mean of ones above 1


def combine(name: str, members: Mapping[str, Member]) -> Ensemble:
    """Return the ensemble of these members; its fingerprint is over theirs, their names and their weights."""
    settings = {"kind": "ensemble", "weights": {member: members[member].weight for member in members}}
    scorers = {member: members[member].scorer.fingerprint for member in members}
    return Ensemble(name, fingerprint(settings, scorers), tuple(members[member] for member in sorted(members)))


def load(name: str, config: EnsembleScorer, folder: Path, experiment: str) -> Ensemble:
    """Load every member, its files in a folder of its name."""
    from pipeline.scorers.loading import load_scorer  # late: it knows all kinds, this one too

    members = {
        member: Member(entry.weight, load_scorer(member, entry.scorer, folder / member, experiment))
        for member, entry in config.members.items()
    }
    return combine(name, members)


SCORER = ScorerKind(
    "ensemble",
    EnsembleScorer,
    load,
    bytes=lambda section: 0,  # its members' alone
    members=lambda section: {name: member.scorer for name, member in section.members.items()},
)
