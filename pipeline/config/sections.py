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
    Temperature,
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
from pipeline.config.materials import LABELS as LABELS
from pipeline.config.materials import AdapterReference as AdapterReference
from pipeline.config.materials import BaseReference as BaseReference
from pipeline.config.materials import ChatData as ChatData
from pipeline.config.materials import DataSection as DataSection
from pipeline.config.materials import DialogSumData as DialogSumData
from pipeline.config.materials import FullReference as FullReference
from pipeline.config.materials import LoraSection as LoraSection
from pipeline.config.materials import PairFile as PairFile
from pipeline.config.materials import PromptData as PromptData
from pipeline.config.materials import PromptList as PromptList
from pipeline.config.materials import RawText as RawText
from pipeline.config.materials import ReferenceSection as ReferenceSection
from pipeline.config.materials import Requirements as Requirements
from pipeline.config.materials import RewriteData as RewriteData
from pipeline.config.materials import RewriteText as RewriteText
from pipeline.config.materials import SupervisedSection as SupervisedSection
from pipeline.config.materials import T5Build as T5Build
from pipeline.config.preferring import DatasetPreferences as DatasetPreferences
from pipeline.config.preferring import OnPolicyPreferences as OnPolicyPreferences
from pipeline.config.preferring import PolarityLint as PolarityLint
from pipeline.config.preferring import PreferencesSection as PreferencesSection
from pipeline.config.scoring import BaseFluency as BaseFluency
from pipeline.config.scoring import CausalFluency as CausalFluency
from pipeline.config.scoring import DetoxifyScorer as DetoxifyScorer
from pipeline.config.scoring import EmbeddingHeadScorer as EmbeddingHeadScorer
from pipeline.config.scoring import EnsembleScorer as EnsembleScorer
from pipeline.config.scoring import Fluency as Fluency
from pipeline.config.scoring import KeywordScorer as KeywordScorer
from pipeline.config.scoring import LabelledReplies as LabelledReplies
from pipeline.config.scoring import ProfanityCheckScorer as ProfanityCheckScorer
from pipeline.config.scoring import RefusalPhrases as RefusalPhrases
from pipeline.config.scoring import RefusalSection as RefusalSection
from pipeline.config.scoring import Scorer as Scorer
from pipeline.config.scoring import SequenceClassifierScorer as SequenceClassifierScorer
from pipeline.config.scoring import WordListScorer as WordListScorer


class ModelSection(Section):
    """The policy before any training: downloaded from `source` or built here, with random weights, as `build` says.

    Device and threads are environment, not parameters. `quantization` is of the frozen weights in memory (Dettmers et
    al. 2023) and needs CUDA; `gradient_checkpointing` computes activations twice (Chen et al. 2016).
    """

    source: Source | None
    build: T5Build | None
    architecture: Literal["causal", "seq2seq"]
    dtype: Literal["float32", "bfloat16"]
    quantization: Literal["nf4"] | None
    gradient_checkpointing: bool
    prompt_format: Literal["plain", "chat_template"]
    max_prompt_tokens: Count


class JudgeFit(Section):
    """How the logistic head is fitted; null where the judge is pinned, not fitted."""

    positives: RawText
    negatives: Annotated[dict[str, RawText], Field(min_length=2)]
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


class RewardSection(Section):
    """The reward scorer, and how what it says becomes the score that PPO maximises and that ranks preference samples.

    `output` is its toxicity, or the classifier's own logit or log-odds, higher where the text is more toxic; the score
    is offset - scale x output: 1 - toxicity is offset 1 and scale 1. `reads` tells whether the scorer also sees the
    prompt: it does in training alone, never where policies are judged. It is defined here and not among the other
    scorers: adding a judge retrains nothing.
    """

    name: Name
    scorer: Scorer
    output: Literal["toxicity", "logit", "log_odds"]
    reads: Literal["completion", "prompt_and_completion"]
    offset: AnyFloat
    scale: PositiveFloat


class DevSection(Section):
    """How every trained policy is looked at on the dev prompts, by the reward scorer, for tuning."""

    samples_per_prompt: Count
    max_new_tokens: Count
    temperature: Temperature
    top_p: Annotated[float, Field(gt=0, le=1)]
    batch_size: Count
    seed: Seed


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
    fluency: Fluency
    refusal: RefusalSection | None
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
