"""The sections about what an experiment starts from: data, and the reference that is made of a model."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.config.fields import (
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
