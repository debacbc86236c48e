"""One class a section of `experiments/<name>.yaml`. No field has a default: the file is complete and DVC sees every
value, so that this module can only accept or refuse and never changes an output (a test holds it to that)."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from pipeline.config.fields import (
    AnyFloat,
    Count,
    Fraction,
    LearningRate,
    Name,
    NonNegativeFloat,
    PositiveFloat,
    RawFile,
    Section,
    Seed,
    Source,
    TaskName,
    Temperature,
    Template,
    Text,
)


class RawText(Section):
    """One source of text: a file below `data/<experiment>/raw` and the field that holds the text.

    A .txt file has a text a line, and so no field: null. Units are cut within a whole text, a sentence, or a turn of a
    dialogue; a text that contains `skip` is not used.
    """

    file: RawFile
    field: Text | None
    unit: Literal["text", "sentence", "turn"]
    skip: str | None


class T5Build(Section):
    """A T5 built from its configuration with random weights, and a tokenizer trained on the train split's prompts.

    The names are those of Transformers' T5Config; `reference` has to train it.
    """

    vocab_size: Count
    d_model: Count
    d_kv: Count
    d_ff: Count
    num_layers: Count
    num_decoder_layers: Count
    num_heads: Count
    feed_forward_proj: Literal["relu", "gated-gelu"]
    dropout_rate: Annotated[float, Field(ge=0, lt=1)]
    seed: Seed


class LoraSection(Section):
    """One LoRA setting for all methods (Hu et al. 2021)."""

    r: Count
    alpha: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    target_modules: Annotated[list[Text], Field(min_length=1)]


class SupervisedSection(Section):
    """Supervised fine-tuning on the chosen completions."""

    learning_rate: LearningRate
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    epochs: Count
    batch_size: Count
    gradient_accumulation: Count
    max_grad_norm: PositiveFloat
    weight_decay: NonNegativeFloat


class Requirements(Section):
    """What the reference must reach on the dev prompts for the experiment to go on; null asks for nothing.

    `rouge_l`: mean ROUGE-L against the demonstrations. `toxicity_mean`: by the reward scorer.
    """

    rouge_l: Fraction | None
    toxicity_mean: Fraction | None


class BaseReference(Section):
    """The bare base model."""

    kind: Literal["base"]


class AdapterReference(SupervisedSection):
    """The base model with a task LoRA, trained on the demonstrations."""

    kind: Literal["adapter"]
    lora: LoraSection
    max_demonstration_tokens: Count
    require: Requirements


class FullReference(SupervisedSection):
    """All weights of the base model trained on the demonstrations."""

    kind: Literal["full"]
    max_demonstration_tokens: Count
    require: Requirements


ReferenceSection = Annotated[BaseReference | AdapterReference | FullReference, Field(discriminator="kind")]


Reason = Annotated[str, StringConstraints(pattern=r"\S")]


class OnPolicyPreferences(Section):
    """Chosen/rejected pairs on policy: best and worst of k samples by the reward scorer."""

    kind: Literal["on_policy"]
    samples_per_prompt: Annotated[Count, Field(ge=2)]
    max_new_tokens: Count
    margin: Fraction
    batch_size: Count


class PolarityLint(Section):
    """When the answers of a data set contradict the polarity that is declared for it.

    A pair says which of its answers is worse where one refuses and the other does not, or where their toxicity differs
    by `margin`. The declared polarity is contradicted where the share of chosen answers that are the worse ones, with
    95 % confidence, is above `max_chosen_worse`. Where less than `min_decided` of all pairs say anything, nothing is
    known.
    """

    margin: Fraction
    min_decided: Fraction
    max_chosen_worse: Fraction


class DatasetPreferences(Section):
    """Chosen/rejected pairs of a data set: as it labels them, or swapped where its `chosen` is the worse answer.

    `polarity_override` is the reason for which pairs are trained on that contradict their polarity; null refuses them.
    """

    kind: Literal["dataset"]
    polarity: Literal["as_labelled", "swapped"]
    polarity_override: Reason | None
    lint: PolarityLint
    max_completion_tokens: Count


PreferencesSection = Annotated[OnPolicyPreferences | DatasetPreferences, Field(discriminator="kind")]


class RefusalPhrases(Section):
    """Phrases with which assistants decline, sought in the first `words` of a reply: a filter that anyone can check."""

    kind: Literal["refusal_phrases"]
    words: Count


class LabelledReplies(Section):
    """Replies of which somebody said whether they refuse: a JSONL file below `data/<experiment>/raw` and its fields.

    `label` names a field that is true for a refusal and false for any other reply.
    """

    file: RawFile
    field: Text
    label: Text


class RefusalSection(Section):
    """The judge of refusals, which are no toxicity; `labelled` is what its card is measured on, null for no figures."""

    scorer: RefusalPhrases
    labelled: LabelledReplies | None


class BaseFluency(Section):
    """Perplexity under the base model: what `complete` has measured."""

    kind: Literal["base"]


class CausalFluency(Section):
    """Perplexity of a completion alone, without its prompt, under a causal model that is no policy here."""

    kind: Literal["causal_lm"]
    source: Source
    dtype: Literal["float32", "bfloat16"]
    max_tokens: Count


Fluency = Annotated[BaseFluency | CausalFluency, Field(discriminator="kind")]


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
    scorer: Any  # one of scorers/, see config/schema.py
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


class ExperimentFile(Section):
    """The whole of `experiments/<name>.yaml`; what is `Any` here config/schema.py fills with what is declared."""

    model: ModelSection
    data: Any
    scorers: dict[Name, Any]
    identity: IdentitySection
    fluency: Fluency
    refusal: RefusalSection | None
    judge: JudgeSection
    lora: LoraSection
    reference: ReferenceSection
    reward: RewardSection
    preferences: PreferencesSection
    dev: DevSection
    methods: Any
    complete: CompleteSection
    probe: ProbeSection
    score: ScoreSection
    evaluate: EvaluateSection
