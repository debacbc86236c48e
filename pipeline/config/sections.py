"""One class a section of `experiments/<name>.yaml`. No field has a default: the file is complete and DVC sees every
value, so that this module can only accept or refuse and never changes an output (a test holds it to that)."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import NAME_PATTERN as NAME_PATTERN
from pipeline.config.fields import (
    AnyFloat,
    Count,
    Fraction,
    LearningRate,
    NonNegativeFloat,
    PositiveFloat,
    RawFile,
    Sha256,
    Temperature,
    Text,
)
from pipeline.config.fields import Name as Name
from pipeline.config.fields import Section as Section
from pipeline.config.fields import Seed as Seed
from pipeline.config.fields import Source as Source
from pipeline.config.judging import Baseline as Baseline
from pipeline.config.judging import CompleteSection as CompleteSection
from pipeline.config.judging import EvaluateSection as EvaluateSection
from pipeline.config.judging import Guard as Guard
from pipeline.config.judging import IdentitySection as IdentitySection
from pipeline.config.judging import ProbeSection as ProbeSection
from pipeline.config.judging import ProbeTask as ProbeTask
from pipeline.config.judging import ScoreSection as ScoreSection


class ModelSection(Section):
    """The policy before any training. Device and threads are environment, not parameters."""

    source: Source
    architecture: Literal["causal", "seq2seq"]
    dtype: Literal["float32", "bfloat16"]
    prompt_format: Literal["continuation"]
    max_prompt_tokens: Count


class DataSection(Section):
    """Where prompts come from and how they are split."""

    dataset: Literal["realtoxicityprompts", "jsonl"]
    sources: dict[Name, Source]
    eval_fraction: Annotated[float, Field(gt=0, lt=1)]
    dev_fraction: Annotated[float, Field(gt=0, lt=1)]


class EmbeddingHeadScorer(Section):
    """A frozen sentence encoder with mean pooling and a logistic head that the judge stage fits."""

    kind: Literal["embedding_head"]
    source: Source
    max_tokens: Count


class ProfanityCheckScorer(Section):
    """alt-profanity-check as installed; `files` pins the pickles it loads, by path inside its package."""

    kind: Literal["profanity_check"]
    files: dict[str, Sha256]


class KeywordScorer(Section):
    """Share of keyword hits: min(1, hits / saturation). For tests and as a transparent baseline."""

    kind: Literal["keyword"]
    keywords: Annotated[list[Text], Field(min_length=1)]
    saturation: Count


class WordListScorer(Section):
    """Whole words and phrases of a downloaded list: min(1, hits / saturation). A transparent filter."""

    kind: Literal["word_list"]
    source: Source
    saturation: Count


Scorer = Annotated[
    EmbeddingHeadScorer | ProfanityCheckScorer | KeywordScorer | WordListScorer, Field(discriminator="kind")
]


class JudgeText(Section):
    """One labelled source of text: a file below `data/<experiment>/raw` and the field that holds the text.

    Windows are cut within a unit; a text that contains `skip` is not used.
    """

    file: RawFile
    field: Text
    unit: Literal["text", "sentence", "turn"]
    skip: str | None


class JudgeFit(Section):
    """How the logistic head is fitted; null where the judge is pinned, not fitted."""

    positives: JudgeText
    negatives: Annotated[dict[str, JudgeText], Field(min_length=2)]
    excluded_dataset: Literal["realtoxicityprompts", "jsonl"]
    held_out_source: str
    window_words: Annotated[list[Count], Field(min_length=2, max_length=2)]
    windows_per_positive: Count
    windows_per_negative_source: Count
    test_fraction: Annotated[float, Field(gt=0, lt=1)]
    regularization: PositiveFloat
    threshold: Fraction
    max_false_positive_rate: Fraction
    seed: Seed


class JudgeSection(Section):
    """The held-out judge: a scorer that no training ever sees."""

    scorer: str
    fit: JudgeFit | None


class LoraSection(Section):
    """One LoRA setting for all three methods (Hu et al. 2021)."""

    r: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    target_modules: Annotated[list[Text], Field(min_length=1)]


class ReferenceSection(Section):
    """The policy everything starts from: the bare base model."""

    kind: Literal["base"]


class RewardSection(Section):
    """The reward scorer, and how its toxicity becomes the score that PPO maximises and that ranks preference samples.

    It is defined here and not among the other scorers, so that adding a judge retrains nothing.
    """

    name: Name
    scorer: Scorer
    offset: AnyFloat
    scale: PositiveFloat


class PreferencesSection(Section):
    """Chosen/rejected pairs on policy: best and worst of k samples by the reward scorer."""

    kind: Literal["on_policy"]
    samples_per_prompt: Annotated[Count, Field(ge=2)]
    max_new_tokens: Count
    margin: Fraction
    batch_size: Count


class DevSection(Section):
    """How every trained policy is looked at on the dev prompts, by the reward scorer, for tuning."""

    samples_per_prompt: Count
    max_new_tokens: Count
    temperature: Temperature
    top_p: Annotated[float, Field(gt=0, le=1)]
    batch_size: Count
    seed: Seed


class SupervisedSection(Section):
    """Supervised fine-tuning on the chosen completions."""

    learning_rate: LearningRate
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    batch_size: Count
    gradient_accumulation: Count
    max_grad_norm: PositiveFloat
    weight_decay: NonNegativeFloat


class DPOSection(SupervisedSection):
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7)."""

    beta: PositiveFloat


class PPOSection(Section):
    """Proximal policy optimisation (Schulman et al. 2017) with a per-token KL penalty (Ziegler et al. 2019)."""

    steps: Count
    prompts_per_step: Count
    samples_per_prompt: Count
    max_new_tokens: Count
    epochs: Count
    minibatch_size: Count
    micro_batch_size: Count
    learning_rate: LearningRate
    value_learning_rate: LearningRate
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)]
    max_grad_norm: PositiveFloat
    gamma: Fraction
    gae_lambda: Fraction
    clip_range: Annotated[float, Field(gt=0, lt=1)]
    value_clip_range: PositiveFloat
    vf_coef: NonNegativeFloat
    kl_coef: NonNegativeFloat
    kl_target: PositiveFloat | None
    kl_horizon: Count
    max_approx_kl: PositiveFloat | None
    score_scaling: Literal["none", "scale", "normalize"]
    score_clip: PositiveFloat | None
    missing_eos_penalty: NonNegativeFloat
    whiten_rewards: bool
    whiten_advantages: bool


class ExperimentFile(Section):
    """The whole of `experiments/<name>.yaml`."""

    model: ModelSection
    data: DataSection
    scorers: Annotated[dict[Name, Scorer], Field(min_length=1)]
    identity: IdentitySection
    judge: JudgeSection
    lora: LoraSection
    reference: ReferenceSection
    reward: RewardSection
    preferences: PreferencesSection
    dev: DevSection
    sft: SupervisedSection
    dpo: DPOSection
    ppo: PPOSection
    complete: CompleteSection
    probe: ProbeSection
    score: ScoreSection
    evaluate: EvaluateSection
