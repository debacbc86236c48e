"""Assemble metrics/<experiment>/evaluation.json (design.md, section 8). Rounding happens on writing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.sections import CompleteSection
from pipeline.evaluation import (
    before_after,
    capability,
    comparing,
    guard_checks,
    guards,
    judging,
    measured,
    refusals,
    reranked,
    statistics,
    verdict,
)
from pipeline.evaluation.loading import Judged
from pipeline.evaluation.measured import Frame, Measured
from pipeline.evaluation.probes import Probed
from pipeline.evaluation.rows import FLUENCY
from pipeline.evaluation.shape import REFERENCE, SCHEMA_VERSION
from pipeline.evaluation.spread import Array
from pipeline.evaluation.statistics import Interval

DECODING = ("max_new_tokens", "temperature", "top_p", "rtp_protocol", "seed")


@dataclass(frozen=True)
class Evidence:
    """All that an evaluation is computed from; `cards` by judge, `demonstrations` by prompt id, all there are."""

    judged: Judged
    probed: Probed
    cards: Mapping[str, Mapping[str, Any]]
    demonstrations: Mapping[str, Sequence[str]]


def assemble(evidence: Evidence, settings: Any) -> dict[str, Any]:
    """Return the whole evaluation from what was judged and probed.

    `settings` has the sections complete, identity, reward and evaluate. Every trained policy is compared to
    `reference`, to the other methods and to the baselines.
    """
    judged, evaluate, reward = evidence.judged, settings.evaluate, settings.reward.name
    frame = _frame(evidence, settings)
    policies = {name: _measured(evidence, settings, name) for name in judged.policies}
    reference = policies[REFERENCE]
    methods = {name: policy for name, policy in policies.items() if name != REFERENCE}
    primary = next(iter(judged.judges))
    baselines = {name: baseline.scorer for name, baseline in evaluate.baselines.items()}
    comparisons = comparing.compare(
        {name: _means(policy, primary) for name, policy in methods.items()},
        _means(reference, primary),
        {name: reranked.toxicity(reference, scorer, primary, judged.samples) for name, scorer in baselines.items()},
        frame,
    )
    entries = _entries(evidence, settings, policies, frame)
    for name, policy in methods.items():
        entries[name]["hacking"] = measured.hacking(policy, reference, reward, frame)
        entries[name]["verdict"] = verdict.verdict(
            comparisons[name],
            entries[name]["guard_checks"],
            entries[name]["hacking"],
            list(baselines),
            1 - evaluate.confidence,
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "meta": _meta(judged, settings),
        **entries,
        "baselines": {name: reranked.entry(reference, scorer, primary, frame) for name, scorer in baselines.items()},
        "comparisons": comparisons,
        "agreement": _agreement(policies, evaluate.threshold),
        "champion": verdict.champion(
            {name: entries[name]["verdict"] for name in methods},
            {name: statistics.mean(_means(policy, primary)) for name, policy in methods.items()},
            judged.seeds,
        ),
    }


def _frame(evidence: Evidence, settings: Any) -> Frame:
    judged, evaluate = evidence.judged, settings.evaluate
    return Frame(
        resampling=statistics.draw(len(judged.prompt_ids), len(judged.seeds), evaluate.resamples, evaluate.seed),
        confidence=evaluate.confidence,
        threshold=evaluate.threshold,
        resamples=evaluate.resamples,
        seed=evaluate.seed,
        cards=evidence.cards,
        sizes=measured.sizes(judged.samples),
    )


def _measured(evidence: Evidence, settings: Any, name: str) -> Measured:
    judged = evidence.judged
    measures = guards.measure(
        judged.completions[name],
        len(judged.prompt_ids),
        settings.identity.terms,
        evidence.demonstrations,
        None if judged.fluency is None else judged.fluency.surprises[name],
    )
    return measured.measure(judged.toxicities[name], judged.cuts[name], measures, settings.evaluate.threshold)


def _means(policy: Measured, judge: str) -> Array:
    return policy.statistics[judge]["toxicity_mean"]


def _entries(
    evidence: Evidence, settings: Any, policies: Mapping[str, Measured], frame: Frame
) -> dict[str, dict[str, Any]]:
    """Return each policy's own entry: judges, guards and their checks, categories, seeds."""
    judged, evaluate = evidence.judged, settings.evaluate
    primary, reference = next(iter(judged.judges)), policies[REFERENCE]
    medians = {
        name: statistics.median_replicates(policy.measures.perplexity, frame.resampling)
        for name, policy in policies.items()
    }
    categories = _categories(judged)
    entries: dict[str, dict[str, Any]] = {}
    for name, policy in policies.items():
        other = None if name == REFERENCE else reference
        probed = capability.values(evidence.probed, name)
        entry: dict[str, Any] = {
            "judges": measured.judged(policy, other, frame),
            "before_after": before_after.before_after(policy, other, frame),
            "guards": guards.values(policy.measures) | probed | _refusal_guards(judged, name, categories),
            "categories": measured.by_category(
                _means(policy, primary), None if other is None else _means(other, primary), categories, frame
            ),
            "seeds": _by_seed(evidence, name, policy, other, categories),
            **_refusal(judged, name, categories, frame),
        }
        if rouge := measured.overlaps(policy, other, frame):
            entry["rouge"] = rouge
        failed = ""
        if other is not None:
            changes = _changes(evidence, settings, name, policy, reference, (medians[name], medians[REFERENCE]))
            changes |= refusals.changes(entry.get("refusal", {}))
            entry["guard_checks"] = guard_checks.checks(evaluate.guards, changes)
            failed = guard_checks.failed(entry["guard_checks"])
        entries[name] = entry | {"guards_failed": failed, "guards_passed": not failed}
    return entries


def _by_seed(
    evidence: Evidence, name: str, policy: Measured, reference: Measured | None, categories: refusals.Members
) -> dict[str, Any]:
    entries, refused = {}, evidence.judged.refusals
    for index, seed in enumerate(evidence.judged.seeds):
        entry = measured.by_seed(policy.of_seed(index), reference and reference.of_seed(index))
        entry["guards"] |= capability.values(evidence.probed.of_seed(index), name)
        if refused is not None:
            entry["guards"] |= refusals.guard_values(refused[name][:, index : index + 1], categories)
            other = None if reference is None else refused[REFERENCE]
            entry["refusal"] = refusals.by_seed(refused[name], other, categories, index)
        entries[str(seed)] = entry
    return entries


def _refusal(judged: Judged, name: str, categories: refusals.Members, frame: Frame) -> dict[str, Any]:
    """Return how often a policy declines, under its key; {} where refusals are not judged."""
    if judged.refusals is None:
        return {}
    other = None if name == REFERENCE else judged.refusals[REFERENCE]
    return {"refusal": refusals.entry(judged.refusals[name], other, categories, frame)}


def _refusal_guards(judged: Judged, name: str, categories: refusals.Members) -> dict[str, float]:
    return {} if judged.refusals is None else refusals.guard_values(judged.refusals[name], categories)


def _changes(
    evidence: Evidence,
    settings: Any,
    name: str,
    policy: Measured,
    reference: Measured,
    medians: tuple[Array, Array],
) -> dict[str, Interval]:
    """Return the change from the reference of every guarded value that there is."""
    evaluate = settings.evaluate
    estimates = guard_checks.estimates(policy.measures, reference.measures, medians)
    changes = {
        guard: estimates[guard].change(limit.change, evaluate.confidence)
        for guard, limit in evaluate.guards.items()
        if guard in estimates
    }
    kinds = {guard: limit.change for guard, limit in evaluate.guards.items() if guard not in estimates}
    return changes | capability.changes(
        evidence.probed, name, kinds, evaluate.resamples, evaluate.confidence, evaluate.seed
    )


def _categories(judged: Judged) -> dict[str, list[int]]:
    """Return the indices of the prompts of each category, by name."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(judged.completions[REFERENCE][0][:: judged.samples]):
        for category in row.categories:
            members.setdefault(category, []).append(index)
    return dict(sorted(members.items()))


def _agreement(policies: Mapping[str, Measured], threshold: float) -> dict[str, dict[str, Any]]:
    """Return how far each two judges agree on all completions of all policies."""
    names = list(policies[REFERENCE].toxicities)
    pooled = {judge: np.concatenate([policy.toxicities[judge] for policy in policies.values()]) for judge in names}
    return {
        first: {second: judging.agreement(pooled[first], pooled[second], threshold) for second in names[index + 1 :]}
        for index, first in enumerate(names[:-1])
    }


def _meta(judged: Judged, settings: Any) -> dict[str, Any]:
    complete, evaluate, reward = settings.complete, settings.evaluate, settings.reward.name
    judges = list(judged.judges)
    return {
        "primary_judge": judges[0],
        "reward_scorer": reward,
        "held_out_judges": [judge for judge in judges if judge != reward],
        "judges": judged.judges,
        "policies": judged.policies,
        "prompts": len(judged.prompt_ids),
        "samples_per_prompt": judged.samples,
        "analyzed_samples": complete.analyzed_samples,
        "emt_k": measured.sizes(judged.samples),
        "seeds": judged.seeds,
        "decoding": {key: getattr(complete, key) for key in DECODING},
        "threshold": evaluate.threshold,
        "confidence": evaluate.confidence,
        "resamples": evaluate.resamples,
        "bootstrap": "clustered by " + ("prompt and seed" if len(judged.seeds) > 1 else "prompt"),
        "interval": "percentiles of the bootstrap, deviations scaled to standard errors that so few clusters allow",
        "corrections": "permutation p-values: prompts' signs flipped; Holm within each family of comparisons",
        "kl_estimator": _kl_estimator(complete),
        **_perplexity_model(judged),
        **({} if judged.refusal_sha256 is None else {"refusal_sha256": judged.refusal_sha256}),
        "baselines": {
            name: {"scorer": baseline.scorer, "outputs_per_prompt": 1} for name, baseline in evaluate.baselines.items()
        },
        "guards": {name: guard.model_dump() for name, guard in evaluate.guards.items()},
    }


def _perplexity_model(judged: Judged) -> dict[str, Any]:
    """Name what perplexity is measured under: the base model, or the fluency model and how often it saw a part only."""
    if judged.fluency is None:
        return {"perplexity_model": "base"}
    cuts = {name: float(array.mean()) for name, array in judged.fluency.cuts.items()}
    return {
        "perplexity_model": FLUENCY,
        "perplexity_model_sha256": judged.fluency.sha256,
        "perplexity_cut_rate": cuts,
    }


def _kl_estimator(complete: CompleteSection) -> str:
    """Name the estimator, and what makes it an approximation; the log-probs are at temperature 1, untruncated."""
    exact = complete.temperature == 1 and complete.top_p == 1
    return "k1, " + ("unbiased" if exact else "approximate: samples come from the truncated or tempered distribution")
