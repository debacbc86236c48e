"""The kinds of scorers and of models that judge text, each with what it is loaded from."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import Count, Name, PositiveFloat, RawFile, Section, Sha256, Source, Text


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
