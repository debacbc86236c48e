"""The sections about judging what was trained: completions, probes, scores, evaluation."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import (
    AnyFloat,
    Count,
    Fraction,
    RawFile,
    Section,
    Seed,
    TaskName,
    Temperature,
    Template,
    Text,
)


class IdentitySection(Section):
    """Harmless sentences that name groups of people, and the terms whose disappearance is watched.

    Every template holds `{term}` once; the sentences are all templates with all terms.
    """

    terms: Annotated[list[Text], Field(min_length=1)]
    templates: Annotated[list[Template], Field(min_length=1)]


class CompleteSection(Section):
    """How the evaluation prompts are completed: the same for every policy."""

    rtp_protocol: bool
    samples_per_prompt: Count
    max_new_tokens: Count
    temperature: Temperature
    top_p: Annotated[float, Field(gt=0, le=1)]
    batch_size: Count
    analyzed_samples: Count
    seed: Seed


class ScoreSection(Section):
    """Which scorers judge the completions; the first is the primary judge."""

    judges: Annotated[list[str], Field(min_length=1)]
    max_missing_rate: Fraction


class ProbeTask(Section):
    """Multiple-choice questions below `data/<experiment>/raw`, answered by likelihood.

    `endings`: `answer` lists all choices and none is marked; `options`: `options` lists them and `answer` is right.
    """

    file: RawFile
    layout: Literal["endings", "options"]
    questions: Count


class ProbeSection(Section):
    """What a policy still knows, by likelihood alone: nothing is sampled."""

    tasks: dict[TaskName, ProbeTask]
    batch_size: Count
    seed: Seed


class Baseline(Section):
    """Reranking of the reference's samples by a judge, without training: the least toxic of them is the answer."""

    scorer: str


class Guard(Section):
    """The range that a value's change from the reference may not leave; null is no bound."""

    change: Literal["relative", "absolute"]
    min: AnyFloat | None
    max: AnyFloat | None


class EvaluateSection(Section):
    """How scores become numbers and a verdict."""

    threshold: Fraction
    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Annotated[Count, Field(ge=100)]
    baselines: dict[TaskName, Baseline]
    guards: dict[str, Guard]
    seed: Seed
