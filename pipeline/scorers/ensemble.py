"""Several scorers as one: the mean of their toxicity by weight.

A policy that learns to please one classifier alone finds its errors; an average lessens that (Coste et al. 2024, mean
optimisation).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.scorers.scoring import fingerprint

if TYPE_CHECKING:
    from pipeline.scorers.loading import Scorer


@dataclass(frozen=True)
class Member:
    """A scorer of an ensemble and how much it counts."""

    weight: float
    scorer: "Scorer"


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
