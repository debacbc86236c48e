"""Assemble metrics/<experiment>/evaluation.json (design.md, section 8) and its plot. Rounding happens on writing."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline import records
from pipeline.config.sections import CompleteSection, EvaluateSection, RewardSection
from pipeline.evaluation import guards, statistics, toxicity
from pipeline.evaluation.guards import Measures
from pipeline.evaluation.loading import Judged
from pipeline.evaluation.statistics import Array, Resampling

SCHEMA_VERSION = 1
REFERENCE = "reference"
DECODING = ("max_new_tokens", "temperature", "top_p", "rtp_protocol", "seed")


@dataclass(frozen=True)
class _Policy:
    """What is known of one policy; arrays as in toxicity.py and guards.py."""

    toxicities: dict[str, Array]
    statistics: dict[str, dict[str, Array]]  # judge -> metric -> [P, S]
    measures: Measures

    def of_seed(self, index: int) -> "_Policy":
        chosen = slice(index, index + 1)
        return _Policy(
            toxicities={judge: array[:, chosen] for judge, array in self.toxicities.items()},
            statistics={
                judge: {metric: array[:, chosen] for metric, array in arrays.items()}
                for judge, arrays in self.statistics.items()
            },
            measures=self.measures.of_seed(index),
        )


def assemble(
    judged: Judged, complete: CompleteSection, reward: RewardSection, evaluate: EvaluateSection
) -> dict[str, Any]:
    """Return the whole evaluation: `schema_version`, `meta` and one entry a policy, compared to `reference`."""
    resampling = statistics.draw(len(judged.prompt_ids), len(judged.seeds), evaluate.resamples, evaluate.seed)
    policies = {name: _policy(judged, name, evaluate.threshold) for name in judged.policies}
    medians = {
        name: statistics.median_replicates(policy.measures.perplexity, resampling) for name, policy in policies.items()
    }
    evaluation: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "meta": _meta(judged, complete, reward, evaluate),
    }
    for name, policy in policies.items():
        reference = None if name == REFERENCE else policies[REFERENCE]
        evaluation[name] = {
            "judges": _judges(policy, reference, resampling, evaluate.confidence),
            **_guards(policy, reference, (medians[name], medians[REFERENCE]), evaluate),
            "seeds": {
                str(seed): _seed_values(policy.of_seed(index), reference and reference.of_seed(index))
                for index, seed in enumerate(judged.seeds)
            },
        }
    return evaluation


def _policy(judged: Judged, name: str, threshold: float) -> _Policy:
    return _Policy(
        toxicities=judged.toxicities[name],
        statistics={
            judge: toxicity.prompt_statistics(array, threshold) for judge, array in judged.toxicities[name].items()
        },
        measures=guards.measure(judged.completions[name], len(judged.prompt_ids)),
    )


def _meta(
    judged: Judged, complete: CompleteSection, reward: RewardSection, evaluate: EvaluateSection
) -> dict[str, Any]:
    judges = list(judged.judges)
    several = len(judged.seeds) > 1
    return {
        "primary_judge": judges[0],
        "reward_scorer": reward.scorer,
        "judges": judged.judges,
        "policies": judged.policies,
        "prompts": len(judged.prompt_ids),
        "samples_per_prompt": judged.samples,
        "analyzed_samples": complete.analyzed_samples,
        "seeds": judged.seeds,
        "decoding": {key: getattr(complete, key) for key in DECODING},
        "threshold": evaluate.threshold,
        "confidence": evaluate.confidence,
        "resamples": evaluate.resamples,
        "bootstrap": "percentile, clustered by " + ("prompt and seed" if several else "prompt"),
        "kl_estimator": _kl_estimator(complete),
        "guard_limits": {
            "max_perplexity_increase": evaluate.max_perplexity_increase,
            "max_distinct_2_decrease": evaluate.max_distinct_2_decrease,
        },
    }


def _kl_estimator(complete: CompleteSection) -> str:
    """Name the estimator, and what makes it an approximation; the log-probs are at temperature 1, untruncated."""
    exact = complete.temperature == 1 and complete.top_p == 1
    return "k1, " + ("unbiased" if exact else "approximate: samples come from the truncated or tempered distribution")


def _judges(
    policy: _Policy, reference: _Policy | None, resampling: Resampling, confidence: float
) -> dict[str, dict[str, Any]]:
    judges = {}
    for judge, arrays in policy.statistics.items():
        entry: dict[str, Any] = _intervals(arrays, resampling, confidence)
        entry["missing_rate"] = toxicity.missing_rate(policy.toxicities[judge])
        if reference is not None:
            paired = toxicity.paired_differences(arrays, reference.statistics[judge])
            entry["difference"] = _intervals(paired, resampling, confidence)
        judges[judge] = entry
    return judges


def _intervals(arrays: Mapping[str, Array], resampling: Resampling, confidence: float) -> dict[str, dict[str, float]]:
    intervals = statistics.mean_intervals(arrays, resampling, confidence)
    return {name: asdict(interval) for name, interval in intervals.items()}


def _guards(
    policy: _Policy,
    reference: _Policy | None,
    medians: tuple[Array, Array],
    evaluate: EvaluateSection,
) -> dict[str, Any]:
    """Return `guards`, `guards_failed` and `guards_passed`; the reference is what guards are relative to."""
    values: dict[str, Any] = dict(guards.values(policy.measures))
    failed = ""
    if reference is not None:
        ratios = guards.ratio_intervals(policy.measures, reference.measures, medians, evaluate.confidence)
        values |= {name: asdict(interval) for name, interval in ratios.items()}
        failed = guards.failed(
            {name: interval.value for name, interval in ratios.items()},
            evaluate.max_perplexity_increase,
            evaluate.max_distinct_2_decrease,
        )
    return {"guards": values, "guards_failed": failed, "guards_passed": not failed}


def _seed_values(policy: _Policy, reference: _Policy | None) -> dict[str, Any]:
    """Return the same numbers for one seed, without intervals."""
    judges: dict[str, Any] = {}
    for judge, arrays in policy.statistics.items():
        judges[judge] = {metric: statistics.mean(array) for metric, array in arrays.items()}
        judges[judge]["missing_rate"] = toxicity.missing_rate(policy.toxicities[judge])
        if reference is not None:
            paired = toxicity.paired_differences(arrays, reference.statistics[judge])
            judges[judge]["difference"] = {metric: statistics.mean(array) for metric, array in paired.items()}
    values = guards.values(policy.measures)
    if reference is not None:
        values |= guards.ratios(values, guards.values(reference.measures))
    return {"judges": judges, "guards": values}


def write_plot(path: Path, evaluation: Mapping[str, Any]) -> None:
    """Write one CSV row a policy and judge: every metric with its interval; a missing number is an empty field."""
    rows = []
    for judge in evaluation["meta"]["judges"]:
        for policy in evaluation["meta"]["policies"]:
            row: dict[str, Any] = {"judged": f"{policy} by {judge}", "policy": policy, "judge": judge}
            for metric in toxicity.METRICS:
                interval = evaluation[policy]["judges"][judge][metric]
                row |= {metric: interval["value"], f"{metric}_low": interval["low"], f"{metric}_high": interval["high"]}
            rows.append(row)
    records.write_csv(path, rows)
