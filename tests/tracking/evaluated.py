"""A made-up evaluation with every key that a real one has: policies, baselines, comparisons, agreement, champion."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.io import paths
from pipeline.io.records import write_csv, write_json

JUDGES = ("minilm", "profanity", "words")
POLICIES = ("reference", "sft", "ppo", "dpo")
TOXICITY = {"reference": 0.28, "sft": 0.21, "ppo": 0.22, "dpo": 0.23}
METRICS = ("toxicity_mean", "expected_max_toxicity", "toxicity_probability", "toxic_fraction")
LIMITS: dict[str, dict[str, Any]] = {
    "perplexity_median": {"change": "relative", "min": None, "max": 0.1},
    "distinct_2": {"change": "relative", "min": -0.05, "max": None},
    "identity_perplexity": {"change": "relative", "min": None, "max": 0.2},
    "piqa_accuracy": {"change": "absolute", "min": -0.05, "max": None},
}
GUARDS = {
    "perplexity_median": 17.0,
    "distinct_2": 0.72,
    "identity_perplexity": 21.0,
    "piqa_accuracy": 0.62,
    "empty_rate": 0.0,
    "kl": 0.2,
}
RULE = "lowest toxicity by the primary judge among the trained methods that are a win"


def interval(value: float, half: float = 0.03) -> dict[str, float]:
    """Return an estimate in the middle of its interval."""
    return {"value": round(value, 6), "low": round(value - half, 6), "high": round(value + half, 6)}


def evaluation(
    toxicity: Mapping[str, float] = TOXICITY,
    *,
    seeds: Sequence[int] = (0,),
    champion: str | None = "sft",
    failed: Mapping[str, str] | None = None,
    samples: int = 8,
    judge_digest: str = "a" * 64,
) -> dict[str, Any]:
    """Return an evaluation of the policies in `toxicity`; `failed` names the guard that a policy fails."""
    failed = failed or {}
    methods = [name for name in toxicity if name != "reference"]
    return {
        "schema_version": 1,
        "meta": _meta(list(toxicity), seeds, samples, judge_digest),
        **{name: _policy(name, toxicity, seeds, failed.get(name, ""), samples) for name in toxicity},
        "baselines": {
            name: {
                "judges": {judge: _judged(toxicity["reference"] - 0.05, 0.05) for judge in JUDGES},
                "guards": {"perplexity_median": 16.0, "empty_rate": 0.0},
                "at_k": {str(k): interval(toxicity["reference"] - 0.01 * k) for k in (1, 2)},
            }
            for name in ("best_of_k", "word_filter")
        },
        "comparisons": {
            name: {
                "reference": {
                    "difference": interval(toxicity[name] - toxicity["reference"], 0.02),
                    "p": 0.0004,
                    "p_holm": 0.0012,
                    "smallest_detectable": 0.031,
                }
            }
            for name in methods
        },
        "agreement": {
            "minilm": {
                "profanity": {"kappa": 0.4, "spearman": 0.5, "both": 0.1, "only_first": 0.1, "only_second": 0.05}
            }
        },
        "champion": {
            "policy": champion,
            "seed": seeds[0] if champion else None,
            "rule": RULE,
            "reason": f"lowest of {', '.join(methods)}" if champion else "sft: it fails distinct_2",
        },
    }


def _meta(policies: list[str], seeds: Sequence[int], samples: int, judge_digest: str) -> dict[str, Any]:
    return {
        "primary_judge": "minilm",
        "reward_scorer": "profanity",
        "held_out_judges": ["minilm", "words"],
        "judges": {judge: judge_digest if judge == "minilm" else "b" * 64 for judge in JUDGES},
        "policies": policies,
        "prompts": 120,
        "samples_per_prompt": samples,
        "analyzed_samples": 4,
        "seeds": list(seeds),
        "decoding": {"max_new_tokens": 20, "temperature": 1.0, "top_p": 0.9, "rtp_protocol": False, "seed": 0},
        "threshold": 0.5,
        "confidence": 0.95,
        "resamples": 10000,
        "bootstrap": "percentile, clustered by prompt",
        "kl_estimator": "k1, approximate",
        "baselines": {name: {"scorer": name, "outputs_per_prompt": 1} for name in ("best_of_k", "word_filter")},
        "guards": LIMITS,
        "emt_k": [1, 2, 4, 8],
        "corrections": "none",
    }


def _judged(value: float, less: float | None) -> dict[str, Any]:
    found: dict[str, Any] = {metric: interval(value) for metric in METRICS}
    if less is not None:
        found["difference"] = {metric: interval(-less, 0.02) for metric in METRICS}
    return found


def _policy(
    name: str, toxicity: Mapping[str, float], seeds: Sequence[int], failed: str, samples: int
) -> dict[str, Any]:
    less = None if name == "reference" else toxicity["reference"] - toxicity[name]
    judges = {judge: _judged(toxicity[name] - 0.05 * index, less) for index, judge in enumerate(JUDGES)}
    for judge in judges.values():
        judge |= {"missing_rate": 0.0, "prevalence": interval(toxicity[name])}
        judge["emt_at_k"] = {str(k): interval(toxicity[name] + 0.05 * k) for k in (1, 2, 4, samples)}
    entry: dict[str, Any] = {
        "judges": judges,
        "guards": dict(GUARDS),
        "guards_failed": failed,
        "guards_passed": not failed,
        "categories": {"insult": {"prompts": 40, "toxicity_mean": interval(toxicity[name])}},
        "seeds": {str(seed): _of_seed(toxicity[name] + 0.001 * seed, less) for seed in seeds},
    }
    if less is not None:
        checks = {
            guard: {"change": interval(0.02), "kind": limit["change"], "min": limit["min"], "max": limit["max"]}
            for guard, limit in LIMITS.items()
        }
        entry["guard_checks"] = {guard: check | {"passed": guard != failed} for guard, check in checks.items()}
        gap = {"gap": interval(0.01), "relative_gap": interval(0.1), "flagged": False}
        entry["hacking"] = {"minilm": gap, "words": gap}
        entry["verdict"] = {
            "outcome": "not a win" if failed else "win",
            "reason": f"less toxic, but it fails {failed}" if failed else "less toxic with every guard passed",
            "beats": {"best_of_k": True, "word_filter": True},
        }
    return entry


def _of_seed(value: float, less: float | None) -> dict[str, Any]:
    judges: dict[str, Any] = {}
    for judge in JUDGES:
        judges[judge] = dict.fromkeys(METRICS, value) | {"missing_rate": 0.0}
        if less is not None:
            judges[judge]["difference"] = dict.fromkeys(METRICS, -less)
    return {"judges": judges, "guards": dict(GUARDS)}


def declining(
    found: dict[str, Any], rates: Mapping[str, Mapping[str, float]], judge_digest: str = "c" * 64
) -> dict[str, Any]:
    """Add to an evaluation how often each policy in `rates` declines, by the label of 60 prompts each."""
    found["meta"]["refusal_sha256"] = judge_digest
    for policy, by_label in rates.items():
        every = {**by_label, "all": sum(by_label.values()) / len(by_label)}
        entry: dict[str, dict[str, Any]] = {
            label: interval(rate, 0.08) | {"prompts": 60, "missing_rate": 0.0} for label, rate in every.items()
        }
        levels: dict[str, dict[str, Any]] = {
            label: {"prompts": 60, "toxicity_mean": interval(0.2)} for label in by_label
        }
        if policy != "reference":
            for label, rate in by_label.items():
                entry[label]["difference"] = interval(rate - rates["reference"][label], 0.05)
                levels[label]["difference"] = interval(-0.1)
            entry["all"]["difference"] = interval(0.0, 0.05)
        found[policy] |= {"refusal": entry, "categories": found[policy]["categories"] | levels}
        found[policy]["guards"] |= {f"refusal_rate_{label}": rate for label, rate in by_label.items()}
    return found


def leave(experiment: str, found: Mapping[str, Any], by_prompt: Mapping[str, Sequence[float]] | None = None) -> None:
    """Write an evaluation, its plot and, for each policy in `by_prompt`, the toxicity of every prompt."""
    write_json(paths.metrics(experiment, "evaluation"), found)
    rows = [{"judged": f"{name} by minilm", "toxicity_mean": 0.1} for name in found["meta"]["policies"]]
    write_csv(paths.plot(experiment, "evaluation"), rows)
    if by_prompt is not None:
        write_csv(paths.plot(experiment, "prompts"), prompt_rows(found, by_prompt))


def prompt_rows(found: Mapping[str, Any], by_prompt: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the rows of prompts.csv: the same toxicity by every judge."""
    return [
        {"prompt_id": f"{index:016x}", "seed": seed, "policy": policy, "judge": judge, "toxicity_mean": value}
        for policy, values in by_prompt.items()
        for seed in found["meta"]["seeds"]
        for judge in JUDGES
        for index, value in enumerate(values)
    ]
