"""Signs that a PPO training goes wrong, each with its name, checked at every step."""

from collections import Counter
from collections.abc import Mapping

# Explained variance below zero is no sign in the first steps, when the value head is still learning.
_PATIENCE = 10
# Share of the first step's entropy below which the policy is about to say the same thing always.
_ENTROPY_LEFT = 0.25

CAUSES = {
    "ratio_not_one": "the probability ratio is not 1 at the first minibatch: rollout and update see different "
    "policies (dropout on, truncated sampling, or a dtype too coarse)",
    "negative_k3": "the k3 estimate of the KL to the reference is negative, which it cannot be: log-probabilities of "
    "policy and reference do not belong to the same tokens",
    "clipped_often": "more than half of the tokens were clipped: lower ppo.learning_rate or ppo.epochs",
    "values_explain_nothing": f"explained variance below 0 for {_PATIENCE} steps: raise ppo.value_learning_rate or "
    "ppo.vf_coef",
    "entropy_collapsed": "the entropy is below a quarter of the first step's: raise ppo.kl_coef or lower "
    "ppo.learning_rate",
    "eos_missing": "no completion ended by itself although a missing EOS is penalised: raise ppo.max_new_tokens, or "
    "set ppo.missing_eos_penalty to 0 for continuations",
    "scores_all_equal": "every completion got the same score: there is nothing to learn from; check the reward "
    "scorer and ppo.score_clip",
    "unscored": "the reward scorer could not score every completion: those left the rollout",
}


class Health:
    """Watch the statistics of every step; `seen` counts the steps that had a cause.

    ratio_tolerance: largest |ratio - 1| that rounding alone explains. expects_eos: whether a completion without EOS
    is penalised.
    """

    def __init__(self, ratio_tolerance: float, expects_eos: bool) -> None:
        self.seen: Counter[str] = Counter()
        self._ratio_tolerance, self._expects_eos = ratio_tolerance, expects_eos
        self._first_entropy: float | None = None
        self._worse_than_constant = 0

    def check(self, statistics: Mapping[str, float]) -> list[str]:
        """Return the names of what is off in this step, sorted; see CAUSES for their meanings."""
        if self._first_entropy is None:
            self._first_entropy = statistics["objective/entropy"]
        bad_value = statistics["value/explained_variance"] < 0
        self._worse_than_constant = self._worse_than_constant + 1 if bad_value else 0
        signs = {
            "ratio_not_one": statistics["policy/first_ratio_deviation"] > self._ratio_tolerance,
            "negative_k3": statistics["objective/kl_k3"] < -1e-6,
            "clipped_often": statistics["policy/clip_fraction"] > 0.5,
            "values_explain_nothing": self._worse_than_constant >= _PATIENCE,
            "entropy_collapsed": statistics["objective/entropy"] < _ENTROPY_LEFT * self._first_entropy,
            "eos_missing": self._expects_eos and statistics["objective/finished_rate"] == 0,
            "scores_all_equal": statistics["objective/score_std"] == 0,
            "unscored": statistics["objective/unscored"] > 0,
        }
        causes = sorted(cause for cause, off in signs.items() if off)
        self.seen.update(causes)
        return causes
