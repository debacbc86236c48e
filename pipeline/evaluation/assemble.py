"""Assemble metrics/<experiment>/evaluation.json (design.md, section 8). Rounding happens on writing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config.sections import CompleteSection
from pipeline.evaluation import baselines, guards, inference, judges, statistics, toxicity, verdict
from pipeline.evaluation.evidence import Evidence
from pipeline.evaluation.guards import Measures
from pipeline.evaluation.judged import Judged
from pipeline.evaluation.measure import Frame, Outputs
from pipeline.evaluation.rows import FLUENCY
from pipeline.evaluation.shape import REFERENCE, SCHEMA_VERSION
from pipeline.evaluation.statistics import Array
from pipeline.evaluation.toxicity import Toxicity

DECODING = ("max_new_tokens", "temperature", "top_p", "rtp_protocol", "seed")


@dataclass(frozen=True)
class Measured:
    """Everything that is measured of one policy: its toxicity by every judge, and what every metric gives."""

    toxicity: Toxicity
    measures: Measures

    def means(self, judge: str) -> Array:
        """Return the mean toxicity [P, S] by a judge."""
        return self.toxicity.statistics[judge]["toxicity_mean"]

    def of_seed(self, index: int) -> "Measured":
        """Return the same of one seed alone."""
        return Measured(self.toxicity.of_seed(index), guards.of_seed(self.measures, index))


def assemble(evidence: Evidence, settings: Any) -> dict[str, Any]:
    """Return the whole evaluation from what was judged and probed.

    `settings` has the sections complete, identity, reward and evaluate. Every trained policy is compared to
    `reference`, to the other methods and to the baselines.
    """
    judged, evaluate, reward = evidence.judged, settings.evaluate, settings.reward.name
    frame = _frame(evidence, settings)
    categories = _categories(judged)
    policies = {name: _measured(evidence, settings, categories, name) for name in judged.policies}
    reference = policies[REFERENCE]
    methods = {name: policy for name, policy in policies.items() if name != REFERENCE}
    primary = next(iter(judged.judges))
    scorers = {name: baseline.scorer for name, baseline in evaluate.baselines.items()}
    comparisons = inference.compare(
        {name: policy.means(primary) for name, policy in methods.items()},
        reference.means(primary),
        {
            name: baselines.toxicity(reference.toxicity, scorer, primary, judged.samples)
            for name, scorer in scorers.items()
        },
        frame,
    )
    entries = {
        name: _entry(policy, None if name == REFERENCE else reference, judged, evaluate, categories, frame)
        for name, policy in policies.items()
    }
    for name, policy in methods.items():
        own, others = ({judge: one.means(judge) for judge in judged.judges} for one in (policy, reference))
        entries[name]["hacking"] = judges.hacking(own, others, reward, frame)
        entries[name]["verdict"] = verdict.verdict(
            comparisons[name],
            entries[name]["guard_checks"],
            entries[name]["hacking"],
            list(scorers),
            1 - evaluate.confidence,
        )
    return {
        "schema_version": SCHEMA_VERSION,
        "meta": _meta(judged, settings),
        **entries,
        "baselines": {
            name: baselines.entry(reference.toxicity, reference.measures, scorer, primary, frame)
            for name, scorer in scorers.items()
        },
        "comparisons": comparisons,
        "agreement": _agreement(policies, evaluate.threshold),
        "champion": verdict.champion(
            {name: entries[name]["verdict"] for name in methods},
            {name: statistics.mean(policy.means(primary)) for name, policy in methods.items()},
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
        sizes=toxicity.sizes(judged.samples),
    )


def _measured(evidence: Evidence, settings: Any, categories: Mapping[str, Sequence[int]], name: str) -> Measured:
    judged = evidence.judged
    outputs = Outputs(
        policy=name,
        completions=judged.completions[name],
        prompts=len(judged.prompt_ids),
        terms=settings.identity.terms,
        demonstrations=evidence.demonstrations,
        surprises=None if judged.fluency is None else judged.fluency.surprises[name],
        refused=None if judged.refusals is None else judged.refusals[name],
        categories=categories,
        probed=evidence.probed,
    )
    scores = toxicity.measure(judged.toxicities[name], judged.cuts[name], settings.evaluate.threshold)
    return Measured(scores, guards.measure(outputs))


def _entry(
    policy: Measured,
    reference: Measured | None,
    judged: Judged,
    evaluate: Any,
    categories: Mapping[str, Sequence[int]],
    frame: Frame,
) -> dict[str, Any]:
    """Return a policy's own entry: judges, guards and their checks, categories, seeds; `reference` has no other."""
    primary = next(iter(judged.judges))
    scores = None if reference is None else reference.toxicity
    measures = None if reference is None else reference.measures
    entry: dict[str, Any] = {
        "judges": toxicity.by_judge(policy.toxicity, scores, frame),
        "before_after": toxicity.before_after(policy.toxicity, scores, frame),
        "guards": guards.values(policy.measures),
        "categories": toxicity.by_category(
            policy.means(primary), None if reference is None else reference.means(primary), categories, frame
        ),
        "seeds": {
            str(seed): _of_seed(policy.of_seed(index), reference and reference.of_seed(index))
            for index, seed in enumerate(judged.seeds)
        },
        **guards.details(policy.measures, measures, frame),
    }
    failed = ""
    if measures is not None:
        changes = guards.changes(policy.measures, measures, evaluate.guards, frame)
        entry["guard_checks"] = guards.checks(evaluate.guards, changes)
        failed = guards.failed(entry["guard_checks"])
    return entry | {"guards_failed": failed, "guards_passed": not failed}


def _of_seed(policy: Measured, reference: Measured | None) -> dict[str, Any]:
    """Return the main numbers of one seed, without intervals."""
    return {
        "judges": toxicity.by_seed(policy.toxicity, None if reference is None else reference.toxicity),
        "guards": guards.values(policy.measures),
        **guards.details(policy.measures, None if reference is None else reference.measures, None),
    }


def _categories(judged: Judged) -> dict[str, list[int]]:
    """Return the indices of the prompts of each category, by name."""
    members: dict[str, list[int]] = {}
    for index, row in enumerate(judged.completions[REFERENCE][0][:: judged.samples]):
        for category in row.categories:
            members.setdefault(category, []).append(index)
    return dict(sorted(members.items()))


def _agreement(policies: Mapping[str, Measured], threshold: float) -> dict[str, dict[str, Any]]:
    """Return how far each two judges agree on all completions of all policies."""
    names = list(policies[REFERENCE].toxicity.scores)
    pooled = {judge: np.concatenate([policy.toxicity.scores[judge] for policy in policies.values()]) for judge in names}
    return {
        first: {second: judges.agreement(pooled[first], pooled[second], threshold) for second in names[index + 1 :]}
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
        "emt_k": toxicity.sizes(judged.samples),
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
