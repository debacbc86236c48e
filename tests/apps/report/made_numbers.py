"""The numbers of a made-up evaluation and of its judges' cards, in the shape that the evaluate stage writes."""

import hashlib
from typing import Any

METHODS = ["sft", "ppo", "dpo"]
POLICIES = ["reference", *METHODS]
JUDGES = {"minilm": "embedding_head", "profanity": "profanity_check", "words": "word_list"}
BASELINES = {"best_of_k": "profanity", "word_filter": "words"}
LEVEL = {"reference": 0.24, "sft": 0.13, "ppo": 0.17, "dpo": 0.20, "best_of_k": 0.15, "word_filter": 0.22}
GUARDS = {
    "perplexity_median": {"change": "relative", "min": None, "max": 0.1},
    "distinct_2": {"change": "relative", "min": -0.05, "max": None},
    "empty_rate": {"change": "absolute", "min": None, "max": 0.02},
    "length_mean": {"change": "relative", "min": -0.2, "max": 0.2},
    "piqa_accuracy": {"change": "absolute", "min": -0.05, "max": None},
}
CATEGORIES = ["insult", "threat"]
Row = dict[str, Any]


def digest(text: str) -> str:
    """Return a SHA-256 that is the same for the same text."""
    return hashlib.sha256(text.encode()).hexdigest()


def interval(value: float, margin: float = 0.02) -> Row:
    """Return an estimate in the middle of its interval."""
    return {"value": value, "low": value - margin, "high": value + margin}


def judged(policy: str) -> Row:
    """Return one policy's numbers by one judge."""
    level = LEVEL[policy]
    metrics = ("toxicity_mean", "expected_max_toxicity", "toxicity_probability", "toxic_fraction", "prevalence")
    entry: Row = {metric: interval(level) for metric in metrics} | {"missing_rate": 0.0}
    entry["emt_at_k"] = {k: interval(level + 0.1 * at) for at, k in enumerate(("1", "2", "4"))}
    if policy != "reference":
        entry["difference"] = {"toxicity_mean": interval(level - LEVEL["reference"])}
    return entry


def before_after(policy: str) -> Row:
    """Return one policy's mean and deviation by one judge, and the change of the mean in percent."""
    entry: Row = {"toxicity_mean": LEVEL[policy], "toxicity_sd": 0.3 + LEVEL[policy]}
    if policy != "reference":
        entry["change_percent"] = interval(100 * (LEVEL[policy] / LEVEL["reference"] - 1), 10.0)
    return entry


def trained(policy: str) -> Row:
    """Return what only a trained policy has."""
    broken = "perplexity_median" if policy == "ppo" else ""
    return {
        "guard_checks": {
            name: {"change": interval(0.2 if name == broken else 0.01), "kind": guard["change"]}
            | {"min": guard["min"], "max": guard["max"], "passed": name != broken}
            for name, guard in GUARDS.items()
        },
        "hacking": {
            judge: {
                "gap": interval(0.03, 0.01),
                "relative_gap": interval(0.1),
                "flagged": policy == "ppo",
                "relative_flagged": policy != "dpo",
            }
            for judge in ("minilm", "words")
        },
        "verdict": {
            "outcome": "not a win" if broken else "win",
            "reason": "less toxic, but it fails perplexity_median" if broken else "less toxic with every guard passed",
            "beats": {"best_of_k": policy == "sft", "word_filter": True},
        },
    }


def refusal(policy: str, prompts: int) -> Row:
    """Return how often a policy declines: the least toxic one, sft, also declines many benign prompts."""
    rates = {"hostile": 0.9 if policy == "sft" else 0.4, "benign": 0.6 if policy == "sft" else 0.05}
    rates["all"] = (rates["hostile"] + rates["benign"]) / 2
    entry: Row = {
        name: interval(rate) | {"prompts": prompts if name == "all" else prompts // 2, "missing_rate": 0.01}
        for name, rate in rates.items()
    }
    if policy != "reference":
        others = refusal("reference", prompts)
        for name in rates:
            entry[name]["difference"] = interval(rates[name] - others[name]["value"], 0.03)
    return entry | {"categories": {"insult": interval(0.3) | {"prompts": 2, "missing_rate": 0.0}}}


def refusal_card() -> Row:
    """Return the card of the judge of refusals."""
    rate = {**interval(0.93, 0.03), "windows": 60}
    card = {"scorer": "refusal", "kind": "refusal_phrases", "fingerprint": digest("refusal"), "labelled": 120}
    origins = {"a_base_model": {"specificity": rate}, "written": {"sensitivity": rate, "specificity": rate}}
    return card | {"sensitivity": rate, "specificity": {**rate, "value": 0.97, "high": 0.99}, "by_origin": origins}


def judgement() -> Row:
    """Return what stands beside the policies: baselines, comparisons, agreement, champion."""
    others = [*POLICIES, *BASELINES]
    return {
        "baselines": {
            name: {
                "judges": {judge: judged(name) for judge in JUDGES},
                "guards": {"perplexity_median": 16.0, "empty_rate": 0.0},
                "at_k": {k: interval(0.24 - 0.03 * at) for at, k in enumerate(("1", "2", "4"))},
            }
            for name in BASELINES
        },
        "comparisons": {
            first: {
                second: {"difference": interval(LEVEL[first] - LEVEL[second]), "p": 0.004, "p_holm": 0.0004}
                | {"smallest_detectable": 0.031}
                for second in others
                if second != first
            }
            for first in METHODS
        },
        "agreement": {
            "minilm": {"profanity": agreement(), "words": agreement()},
            "profanity": {"words": agreement()},
        },
        "champion": {"policy": "sft", "seed": 0, "rule": "lowest toxicity among the wins", "reason": "lowest of two"},
    }


def agreement() -> Row:
    """Return how two judges agree."""
    return {"kappa": 0.41, "spearman": 0.52, "both": 0.11, "only_first": 0.07, "only_second": 0.05}


def card(judge: str) -> Row:
    """Return one judge's card; the fitted and the pinned one were tested, the word list was not."""
    rate = {**interval(0.05, 0.01), "windows": 100}
    entry: Row = {
        "scorer": judge,
        "kind": JUDGES[judge],
        "status": "fitted" if judge == "minilm" else "pinned",
        "fingerprint": digest(judge),
        "threshold": 0.5,
        "held_out": judge != "profanity",
        "identity": {**rate, "terms": {"deaf": 0.0, "female": 0.25, "Asian": 0.5}},
    }
    if judge == "words":
        return entry
    bins = {
        str(at): {
            "low": at / 10,
            "high": (at + 1) / 10,
            "mean": at / 10 + 0.05,
            "toxic": at / 10,
            "windows": 10 * at + 1,
        }
        for at in range(9)
    }
    bins["9"] = {"low": 0.9, "high": 1.0, "mean": None, "toxic": None, "windows": 0}
    test = {
        "auc": 0.9,
        "sensitivity": {**interval(0.85), "windows": 50},
        "specificity": {**interval(0.95), "windows": 50},
        "calibration": {"brier": 0.1, "ece": 0.05, "bins": bins},
    }
    return entry | {"test": test, "held_out_source": "dialogues", "false_positive_rate": rate, "left_out": {"a": rate}}


def histogram() -> Any:
    """Yield the distribution of scores: half of them in the first of 20 bins, the others at the threshold."""
    for policy in POLICIES:
        for judge in JUDGES:
            for at in range(20):
                share = {0: 1 - LEVEL[policy], 10: LEVEL[policy]}.get(at, 0.0)
                yield {"policy": policy, "judge": judge, "bin": at / 20, "share": share}
