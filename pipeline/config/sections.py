"""One class a section of `experiments/<name>.yaml`. No field has a default: the file is complete and DVC sees every
value, so that this module can only accept or refuse and never changes an output (a test holds it to that)."""

from typing import Annotated, Literal

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
    Sha256,
    Source,
    TaskName,
    Temperature,
    Template,
    Text,
)

Share = Annotated[float, Field(gt=0, lt=1)]
Instruction = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{dialogue\}[^{}]*$")]


class PromptData(Section):
    """Prompts that are split by their content: the range of content hashes is cut into eval, train and dev."""

    dataset: Literal["realtoxicityprompts", "jsonl"]
    sources: dict[Name, Source]
    eval_fraction: Share
    dev_fraction: Share


class DialogSumData(Section):
    """Dialogues with human summaries in splits of their own; `most` limits a split, null does not.

    Dialogues of `min_characters` to `max_characters` are used, within `instruction`, which holds {dialogue} once.
    """

    dataset: Literal["dialogsum"]
    sources: dict[Name, Source]
    instruction: Instruction
    min_characters: Count
    max_characters: Count
    most: "MostRows"


class MostRows(Section):
    """The largest number of rows of each split; null is all."""

    train: Count | None
    dev: Count | None
    eval: Count | None


class RawText(Section):
    """One source of text: a file below `data/<experiment>/raw` and the field that holds the text.

    A .txt file has a text a line, and so no field: null. Units are cut within a whole text, a sentence, or a turn of a
    dialogue; a text that contains `skip` is not used.
    """

    file: RawFile
    field: Text | None
    unit: Literal["text", "sentence", "turn"]
    skip: str | None


class RewriteText(RawText):
    """Sentences to be repeated, in the split that is named or where their content puts them; `most` limits them.

    Those of `demonstrations` are learnt from by the reference alone and are no prompts of any training.
    """

    split: Literal["content", "train", "demonstrations"]
    most: Count | None


class RewriteData(Section):
    """Sentences of `min_words` to `max_words`, each prompt its own demonstration.

    The reference also learns from `shuffled_copies` of each train sentence with its words in other orders.
    """

    dataset: Literal["rewrite"]
    sources: dict[Name, Source]
    texts: Annotated[dict[Name, RewriteText], Field(min_length=1)]
    min_words: Count
    max_words: Count
    shuffled_copies: Annotated[int, Field(ge=0, le=100)]
    eval_fraction: Share
    dev_fraction: Share


LABELS = ("hostile", "benign")  # of which every chat message has one, as a category


class PromptList(Section):
    """Chat messages of one file below `data/<experiment>/raw`: one a line of a .txt file (`field` null), else `field`.

    `label` tells whether they are hostile or harmful requests, or benign ones that deserve an answer: it is a category
    of every message, as are the list's name and what stands in the field `category`. The range of content hashes is cut
    into eval, train and dev; what the three fractions do not cover is left out.
    """

    file: RawFile
    field: Text | None
    category: Text | None
    label: Literal["hostile", "benign"]
    eval_fraction: Fraction
    dev_fraction: Fraction
    train_fraction: Fraction


class PairFile(Section):
    """A preference data set of one file below `data/<experiment>/raw`, .parquet or .jsonl, and the names of its fields.

    Which of the two answers is the better one is for `preferences.polarity` to say.
    """

    file: RawFile
    prompt: Text
    chosen: Text
    rejected: Text


class ChatData(Section):
    """Chat messages, split by their content, and answers in pairs, whose prompts are all in the train split."""

    dataset: Literal["chat"]
    sources: dict[Name, Source]
    pairs: PairFile | None
    lists: Annotated[dict[Name, PromptList], Field(min_length=1)]


DataSection = Annotated[PromptData | DialogSumData | RewriteData | ChatData, Field(discriminator="dataset")]


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
    """One LoRA setting for all three methods (Hu et al. 2021)."""

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


class EmbeddingHeadScorer(Section):
    """A frozen sentence encoder with mean pooling and a logistic head that the judge stage fits."""

    kind: Literal["embedding_head"]
    source: Source
    max_tokens: Count


class ProfanityCheckScorer(Section):
    """alt-profanity-check as installed; `files` pins the pickles it loads, by path inside its package."""

    kind: Literal["profanity_check"]
    files: dict[str, Sha256]


class SequenceClassifierScorer(Section):
    """Any Hugging Face sequence classifier; its toxicity is the probability of `label`, or what is left to 1 of it.

    `means` tells whether the label is given to toxic or to harmless text.
    """

    kind: Literal["sequence_classifier"]
    source: Source
    label: Text
    means: Literal["toxic", "harmless"]
    max_tokens: Count


class DetoxifyScorer(Section):
    """Detoxify as its library builds it; its toxicity is the probability of `head`.

    `checkpoint` is its released weights, `tokenizer` the configuration and tokenizer files that it asks the hub for.
    """

    kind: Literal["detoxify"]
    variant: Literal["original", "unbiased", "multilingual"]
    head: Text
    checkpoint: Source
    tokenizer: Source
    max_tokens: Count


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


SingleScorer = Annotated[
    ProfanityCheckScorer | SequenceClassifierScorer | DetoxifyScorer | KeywordScorer | WordListScorer,
    Field(discriminator="kind"),
]


class EnsembleMember(Section):
    """One scorer of an ensemble and how much it counts."""

    weight: PositiveFloat
    scorer: SingleScorer


class EnsembleScorer(Section):
    """Several scorers as one: its toxicity is the mean of theirs by weight, missing where one of them is."""

    kind: Literal["ensemble"]
    members: Annotated[dict[Name, EnsembleMember], Field(min_length=2)]


Scorer = Annotated[
    EmbeddingHeadScorer
    | ProfanityCheckScorer
    | SequenceClassifierScorer
    | DetoxifyScorer
    | KeywordScorer
    | WordListScorer
    | EnsembleScorer,
    Field(discriminator="kind"),
]


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
