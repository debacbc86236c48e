"""The section `preferences`: where chosen and rejected completions come from."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pipeline.config.fields import Count, Fraction, Section

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
