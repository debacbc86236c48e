"""What a judge is in an experiment: held out from every training, or the scorer that rewarded it."""

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.shape import BASE


def judges_in_order(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the primary judge, then the other held-out judges, then the reward scorer."""
    meta = evaluation["meta"]
    found = list(meta["judges"])
    return sorted(found, key=lambda judge: (judge != meta["primary_judge"], judge == meta["reward_scorer"]))


def fluency_model(evaluation: Mapping[str, Any]) -> str:
    """Return in words under which model perplexity is measured."""
    is_base = evaluation["meta"].get("perplexity_model", BASE) == BASE
    return "the base model" if is_base else "a causal model that is no policy"


def role(evaluation: Mapping[str, Any], judge: str) -> str:
    """Return a judge's part in words."""
    meta = evaluation["meta"]
    if judge == meta["reward_scorer"]:
        return "the training reward"
    return "primary judge, held out" if judge == meta["primary_judge"] else "held out"
