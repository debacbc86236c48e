"""One PPO update written again from the papers: NumPy, float64, completion by completion, no padding and no mask.

A rollout is a list of completions; `rows` is a list of arrays, one number a token.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.methods.ppo.exact import Seen

Rows = list[np.ndarray]


class Raw(NamedTuple):
    """What a rollout gave, by completion: its score, whether it ended by itself, and what two policies think of it."""

    scores: np.ndarray
    finished: Sequence[bool]
    before: Sequence[Seen]
    reference: Sequence[Seen]


def rewards(raw: Raw, ppo: Any) -> Rows:
    """Return R of Ziegler et al. 2019, eq. 2, spread over tokens: KL where it arises, the score at the end."""
    scores = raw.scores.astype(np.float64)
    if ppo.score_scaling == "normalize":
        scores = scores - scores.mean()
    if ppo.score_scaling != "none":
        scores = scores / raw.scores.std(ddof=1)
    if ppo.score_clip is not None:
        scores = np.clip(scores, -ppo.score_clip, ppo.score_clip)
    rows = [-ppo.kl_coef * kl for kl in kls(raw)]
    for row, score, finished in zip(rows, scores, raw.finished, strict=True):
        row[-1] += score if finished else score - ppo.missing_eos_penalty
    return rows


def kls(raw: Raw) -> Rows:
    """Return log(policy / reference) of every token: k1 of Schulman 2020."""
    return [own.logprobs - other.logprobs for own, other in zip(raw.before, raw.reference, strict=True)]


def advantages(rewards: Rows, values: Rows, gamma: float, gae_lambda: float) -> Rows:
    """Return A_t = sum over l >= 0 of (gamma lambda)^l delta_{t+l} (Schulman et al. 2016, eq. 16)."""
    found = []
    for row, value in zip(rewards, values, strict=True):
        following = np.append(value[1:], 0.0)  # nothing comes after the end
        delta = row + gamma * following - value
        places = range(len(row))
        found.append(np.array([sum((gamma * gae_lambda) ** (u - t) * delta[u] for u in places[t:]) for t in places]))
    return found


def value_start(raw: Raw, ppo: Any) -> float:
    """Return what the values of the first rollout are, up to the weight of the head: the mean of its returns-to-go."""
    given = whitened(rewards(raw, ppo), True) if ppo.whiten_rewards else rewards(raw, ppo)
    to_come = [sum(ppo.gamma ** (u - t) * row[u] for u in range(t, len(row))) for row in given for t in range(len(row))]
    return float(np.mean(to_come))


def whitened(rows: Rows, keep_mean: bool) -> Rows:
    """Return all tokens of all rows with variance 1, and mean 0 or the mean they had."""
    every = np.concatenate(rows)
    return [(row - every.mean()) / every.std() + (every.mean() if keep_mean else 0.0) for row in rows]


class Targets(NamedTuple):
    """What an update is taken towards: advantages (as the loss uses them) and returns."""

    advantages: Rows
    returns: Rows


def targets(raw: Raw, ppo: Any) -> Targets:
    """Return advantages and returns of a rollout."""
    values = [seen.values for seen in raw.before]
    given = rewards(raw, ppo)
    found = advantages(whitened(given, True) if ppo.whiten_rewards else given, values, ppo.gamma, ppo.gae_lambda)
    returns = [row + value for row, value in zip(found, values, strict=True)]
    return Targets(whitened(found, False) if ppo.whiten_advantages else found, returns)


def describe(raw: Raw, ppo: Any) -> dict[str, float]:
    """Return what a rollout says of the policy before the update."""
    values = np.concatenate([seen.values for seen in raw.before])
    returns = np.concatenate(targets(raw, ppo).returns)
    # k3 = (r - 1) - log r with r = reference / policy
    k3 = [np.exp(-kl) - 1 + kl for kl in kls(raw)]
    return {
        "objective/score": raw.scores.mean(),
        "objective/score_std": math.sqrt(((raw.scores - raw.scores.mean()) ** 2).mean()),
        "objective/reward": np.mean([row.sum() for row in rewards(raw, ppo)]),
        "objective/kl": np.mean([kl.sum() for kl in kls(raw)]),
        "objective/kl_k3": np.mean([row.sum() for row in k3]),
        "objective/entropy": np.concatenate([seen.entropy for seen in raw.before]).mean(),
        "objective/length": np.mean([len(seen.values) for seen in raw.before]),
        "objective/finished_rate": np.mean(raw.finished),
        "value/explained_variance": 1 - (returns - values).var() / returns.var(),
    }


def update(now: Sequence[Seen], before: Sequence[Seen], goal: Targets, ppo: Any) -> dict[str, float]:
    """Return the losses of one minibatch, token by token, and what they tell of the new policy."""
    tokens = [
        _token(new.logprobs[t] - old.logprobs[t], new.values[t], old.values[t], advantage[t], target[t], ppo)
        for new, old, advantage, target in zip(now, before, *goal, strict=True)
        for t in range(len(advantage))
    ]
    means = {key: float(np.mean([token[key] for token in tokens])) for key in tokens[0]}
    return means | {"policy/ratio_deviation": max(token["policy/ratio_deviation"] for token in tokens)}


def total(report: dict[str, float], ppo: Any) -> float:
    """Return what is minimised: the policy's loss and the value's (Schulman et al. 2017, eq. 9, without entropy)."""
    return report["policy/loss"] + ppo.vf_coef * report["value/loss"]


def _token(
    log_ratio: float, value: float, old_value: float, advantage: float, target: float, ppo: Any
) -> dict[str, float]:
    ratio = math.exp(log_ratio)
    bounded = min(max(ratio, 1 - ppo.clip_range), 1 + ppo.clip_range)
    # A value may come nearer to its target by value_clip_range only: what it gains beyond counts for nothing.
    bound = math.inf if ppo.value_clip_range is None else ppo.value_clip_range
    near = old_value + min(max(value - old_value, -bound), bound)
    return {
        "policy/loss": -min(ratio * advantage, bounded * advantage),  # Schulman et al. 2017, eq. 7
        "policy/clip_fraction": float(ratio * advantage > bounded * advantage),
        "policy/approx_kl": ratio - 1 - log_ratio,
        "policy/ratio_deviation": abs(ratio - 1),
        "value/loss": max((value - target) ** 2, (near - target) ** 2) / 2,
        "value/clip_fraction": float(abs(near - target) > abs(value - target)),
    }
