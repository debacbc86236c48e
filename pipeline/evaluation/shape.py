"""The shape of evaluation.json, as far as anything reads it: checked before a table, a report or a comparison is made.

An evaluation of an earlier version may lack whole parts; a part that is there has its shape.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.evaluation.rows import first_problem
from pipeline.io.errors import UserError, shown

SCHEMA_VERSION = 1
REFERENCE = "reference"
ALL = "all"  # what rates over prompts of both labels stand under
REFUSAL_RATE = "refusal_rate_"  # guards of refusals are named so, and by a label
BASE = "base"  # what perplexity is measured under, unless a fluency model was asked
PARTS = ("baselines", "comparisons", "champion")  # that an earlier version may lack
Number = float | None
Count = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    """Keys that are not named are left alone."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Estimate(_Part):
    value: Number
    low: Number
    high: Number


class _Guard(_Part):
    change: Literal["relative", "absolute"]
    min: Number
    max: Number


class _Baseline(_Part):
    scorer: str


class _Decoding(_Part):
    max_new_tokens: Count
    temperature: float
    top_p: float


class _Meta(_Part):
    primary_judge: str
    reward_scorer: str
    judges: Annotated[dict[str, str], Field(min_length=1)]
    policies: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[int], Field(min_length=1)]
    prompts: Count
    samples_per_prompt: Count
    analyzed_samples: Count | None = None
    decoding: _Decoding
    threshold: Probability
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Count
    bootstrap: str
    kl_estimator: str
    perplexity_model: str = BASE
    refusal_sha256: str | None = None
    guards: dict[str, _Guard] = {}
    baselines: dict[str, _Baseline] = {}


class _Judged(_Part):
    toxicity_mean: _Estimate
    expected_max_toxicity: _Estimate
    toxicity_probability: _Estimate
    difference: dict[str, _Estimate] = {}
    emt_at_k: dict[str, _Estimate] = {}
    prevalence: _Estimate | None = None
    cut_rate: Number = None


class _Chosen(_Part):
    toxicity_mean: _Estimate
    difference: dict[str, _Estimate] = {}


class _Check(_Part):
    change: _Estimate
    kind: Literal["relative", "absolute"]
    passed: bool


class _Verdict(_Part):
    outcome: str
    reason: str
    beats: dict[str, bool] = {}


class _Hacking(_Part):
    gap: _Estimate
    flagged: bool | None = None
    relative_gap: _Estimate | None = None
    relative_flagged: bool | None = None


class _BeforeAfter(_Part):
    toxicity_mean: Number
    toxicity_sd: Number
    change_percent: _Estimate | None = None


class _Category(_Part):
    prompts: Count
    toxicity_mean: _Estimate
    difference: _Estimate | None = None


class _Rate(_Estimate):
    prompts: Count
    missing_rate: Number
    difference: _Estimate | None = None


class _Refusal(_Part):
    """`hostile` and `benign` are not there where no prompt has that label."""

    all: _Rate
    hostile: _Rate | None = None
    benign: _Rate | None = None
    categories: dict[str, _Rate] = {}


class _Policy(_Part):
    judges: dict[str, _Judged]
    guards: dict[str, Number]
    guard_checks: dict[str, _Check] = {}
    guards_failed: str = ""
    verdict: _Verdict | None = None
    hacking: dict[str, _Hacking] = {}
    categories: dict[str, _Category] = {}
    before_after: dict[str, _BeforeAfter] = {}
    refusal: _Refusal | None = None


class _Reranked(_Part):
    judges: dict[str, _Chosen]
    guards: dict[str, Number]


class _Comparison(_Part):
    difference: _Estimate
    p: Probability | None
    p_holm: Probability | None
    smallest_detectable: Number


class _Champion(_Part):
    policy: str | None
    seed: int | None
    rule: str
    reason: str


class _Evaluation(_Part):
    meta: _Meta
    baselines: dict[str, _Reranked] = {}
    comparisons: dict[str, dict[str, _Comparison]] = {}
    champion: _Champion | None = None


def check(evaluation: Mapping[str, Any], place: str, whole: bool = False) -> None:
    """Raise UserError naming `place` and the key where an evaluation is not of its shape.

    `whole` also asks for all `PARTS`, those that every evaluation of today has.
    """
    remedy = "run `dvc repro` to evaluate again"
    version = evaluation.get("schema_version")
    if version != SCHEMA_VERSION:
        raise UserError(f"{place}: schema_version: expected {SCHEMA_VERSION}, got {shown(version)}; {remedy}")
    for problem in _problems(evaluation, whole):
        raise UserError(f"{place}: {problem}; {remedy}")


def _problems(evaluation: Mapping[str, Any], whole: bool) -> Iterator[str]:
    try:
        _Evaluation.model_validate(dict(evaluation))
    except ValidationError as error:
        yield first_problem(error)
        return  # what follows relies on it
    meta = evaluation["meta"]
    if meta["primary_judge"] not in meta["judges"]:
        yield f"meta.primary_judge: expected one of {', '.join(meta['judges'])}, got {shown(meta['primary_judge'])}"
    for policy in meta["policies"]:
        yield from _policy_problems(evaluation.get(policy), policy, meta)
    yield from (f"{part}: missing" for part in PARTS if whole and evaluation.get(part) is None)


def _policy_problems(entry: Any, policy: str, meta: Mapping[str, Any]) -> Iterator[str]:
    if entry is None:
        yield f"{policy}: missing, though meta.policies names it"
        return
    try:
        found = _Policy.model_validate(entry)
    except ValidationError as error:
        yield first_problem(error, policy)
        return
    judge = meta["primary_judge"]
    if judge not in found.judges:
        yield f"{policy}.judges.{judge}: missing, though it is the primary judge"
    for name, judged in found.judges.items():
        if policy != REFERENCE and "toxicity_mean" not in judged.difference:
            yield f"{policy}.judges.{name}.difference.toxicity_mean: missing"
