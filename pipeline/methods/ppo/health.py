"""Signs that a PPO training goes wrong, each with its name, checked at every step."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

# Explained variance below zero is no sign in the first steps, when the value head is still learning.
_PATIENCE = 10
# Nats a completion in the first step, far above what rounding makes of two equal policies.
_NO_KL = 0.01
# Share of the first step's entropy below which the policy is about to say the same thing always.
_ENTROPY_LEFT = 0.25

CAUSES = {
    "ratio_not_one": "the probability ratio is not 1 at the first minibatch: rollout and update see different "
    "policies (dropout on, log-probabilities of another temperature, or a dtype too coarse; in bfloat16 only gross "
    "differences are told from rounding)",
    "kl_at_start": "the policy differs from the reference before the first update, though its adapter starts as the "
    "reference's or as nothing: log-probabilities of the two do not belong to the same tokens",
    "negative_k3": "the k3 estimate of the KL to the reference is negative, which no probabilities make it: the "
    "arithmetic is broken; please report it",
    "clipped_often": "more than half of the tokens were clipped: lower methods.ppo.learning_rate or methods.ppo.epochs",
    "values_explain_nothing": f"explained variance below 0 for {_PATIENCE} steps: lower "
    "methods.ppo.value_learning_rate, or raise methods.ppo.prompts_per_step",
    "entropy_collapsed": "the entropy is below a quarter of the first step's: raise methods.ppo.kl_coef or lower "
    "methods.ppo.learning_rate",
    "eos_missing": "no completion ended by itself although a missing EOS is penalised: raise "
    "methods.ppo.max_new_tokens, or set methods.ppo.missing_eos_penalty to 0 for continuations",
    "scores_all_equal": "every completion got the same score: there is nothing to learn from; check the reward "
    "scorer and methods.ppo.score_clip",
    "unscored": "the reward scorer could not score every completion: those left the rollout",
}


class Health:
    """Watch the statistics of every step; `seen` counts the steps that had a cause.

    is_exact: whether rounding alone hardly moves a token's probability, see `Policy`. expects_eos: whether a completion
    without EOS is penalised. `last` names the causes of the last step.
    """

    def __init__(self, is_exact: bool, expects_eos: bool) -> None:
        self.seen: Counter[str] = Counter()
        self.last: list[str] = []
        self._ratio_tolerance = 1e-3 if is_exact else 0.5
        self._expects_eos = expects_eos
        self._first_entropy: float | None = None
        self._worse_than_constant = 0

    def check(self, statistics: Mapping[str, float]) -> list[str]:
        """Return the names of what is off in this step, sorted; see CAUSES for their meanings."""
        first = self._first_entropy is None
        if self._first_entropy is None:
            self._first_entropy = statistics["objective/entropy"]
        self._count_bad_values(statistics["value/explained_variance"])
        signs = {
            "ratio_not_one": statistics["policy/first_ratio_deviation"] > self._ratio_tolerance,
            "kl_at_start": first and statistics["objective/kl_k3"] > _NO_KL,
            "negative_k3": statistics["objective/kl_k3"] < -1e-6,
            "clipped_often": statistics["policy/clip_fraction"] > 0.5,
            "values_explain_nothing": self._worse_than_constant >= _PATIENCE,
            "entropy_collapsed": statistics["objective/entropy"] < _ENTROPY_LEFT * self._first_entropy,
            "eos_missing": self._expects_eos and statistics["objective/finished_rate"] == 0,
            "scores_all_equal": statistics["objective/score_std"] == 0,
            "unscored": statistics["objective/unscored"] > 0,
        }
        self.last = sorted(cause for cause, off in signs.items() if off)
        self.seen.update(self.last)
        return self.last

    def state(self) -> dict[str, Any]:
        """Return what was seen so far."""
        return {
            "seen": dict(self.seen),
            "last": self.last,
            "first_entropy": self._first_entropy,
            "worse_than_constant": self._worse_than_constant,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what another has seen."""
        self.seen, self.last = Counter(state["seen"]), state["last"]
        self._first_entropy = state["first_entropy"]
        self._worse_than_constant = state["worse_than_constant"]

    def _count_bad_values(self, explained: float) -> None:
        """Count the steps in a row with values worse than a constant; a step without the measurement counts neither."""
        if not math.isnan(explained):
            self._worse_than_constant = self._worse_than_constant + 1 if explained < -1e-6 else 0
