"""Bringing scores of any scale into the range that the learning rates are meant for."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


class ScoreScaling:
    """Divide scores by their running standard deviation, perhaps less their running mean, and clip them.

    kind: `none`; `scale`, divided alone, so that 0 keeps its meaning; `normalize`, also centred (TRL 0.11 PPOConfig:
    use_score_scaling and use_score_norm). clip: largest absolute value afterwards, or None (TRL 0.11 score_clip;
    Engstrom et al. 2020, section 3, on reward scaling and clipping). Mean and variance run over all rollouts so far,
    merged as in Chan et al. 1979.
    """

    def __init__(self, kind: str, clip: float | None) -> None:
        self.kind, self.clip = kind, clip
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def __call__(self, scores: Tensor) -> Tensor:
        """Take note of the scores [B] of a rollout and return them scaled."""
        self._note(scores)
        if self.kind == "normalize":
            scores = scores - self.mean
        if self.kind != "none" and self.squares > 0:  # equal scores have no scale to bring them to
            scores = scores / math.sqrt(self.squares / (self.count - 1))
        return scores if self.clip is None else scores.clamp(-self.clip, self.clip)

    def state(self) -> dict[str, float]:
        """Return the running numbers."""
        return {"count": self.count, "mean": self.mean, "squares": self.squares}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over the running numbers of another."""
        self.count, self.mean, self.squares = state["count"], state["mean"], state["squares"]

    def _note(self, scores: Tensor) -> None:
        values = scores.double()
        count, mean = len(values), values.mean().item()
        squares = ((values - mean) ** 2).sum().item()
        distance, total = mean - self.mean, self.count + count
        self.squares += squares + distance**2 * self.count * count / total
        self.mean += distance * count / total
        self.count = total
