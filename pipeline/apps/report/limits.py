"""The limits of a study in plain words, from what it measured: each sentence stands only where it is true."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.apps.report import numbers
from pipeline.apps.report.differences import FAMILIES, REFERENCE, pairs
from pipeline.apps.report.numbers import find, interval


def limits(evaluation: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one sentence a limit, the gravest first."""
    return [
        *_seeds(evaluation["meta"]),
        *_judge(evaluation, cards),
        *_refusals(evaluation),
        *_power(evaluation),
        *_scope(evaluation),
    ]


def _seeds(meta: Mapping[str, Any]) -> Iterator[str]:
    count = len(meta["seeds"])
    if count == 1:
        yield (
            "Every method was trained once. The intervals say what other prompts would change; they say nothing about "
            "training again with another seed."
        )
    elif count < 5:
        yield f"{count} seeds say little about the spread between trainings, whatever the method of the intervals."


def _judge(evaluation: Mapping[str, Any], cards: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    primary = evaluation["meta"]["primary_judge"]
    card = cards.get(primary)
    if card is None:
        yield f"There is no card of the judge {primary} on disk: how often it is wrong is not known here."
        return
    sensitivity, specificity = interval(card, "test", "sensitivity"), interval(card, "test", "specificity")
    if sensitivity.value is None or specificity.value is None:
        yield f"The judge {primary} was not tested on labelled text: how often it is wrong is not known."
    else:
        yield (
            f"Toxicity is what {primary} calls so, not what people would: of labelled texts it finds "
            f"{numbers.percent(sensitivity.value, 0)} of the toxic ones and clears "
            f"{numbers.percent(specificity.value, 0)} of the harmless ones. Completions may differ, and the "
            "corrected prevalences of two judges need not agree. "
            "The intervals on the cards take windows of one text as independent."
        )
    flagged = find(card, "identity", "value")
    if flagged:
        yield (
            f"{primary} calls {numbers.percent(flagged)} of harmless sentences about groups of people toxic. A method "
            "can gain by silence about these groups; the identity guards watch this in part."
        )


def _refusals(evaluation: Mapping[str, Any]) -> Iterator[str]:
    if find(evaluation, "meta", "refusal_sha256") is not None:
        yield (
            "A refusal is what its judge finds in the wording: an answer that declines in other words, or that evades, "
            "counts as none. Its card says how often it is wrong; the rates are not corrected for that."
        )


def _power(evaluation: Mapping[str, Any]) -> Iterator[str]:
    sizes = [
        pair.smallest_detectable
        for pair in pairs(evaluation)
        if pair.family == FAMILIES[0] and pair.smallest_detectable is not None
    ]
    if sizes:
        yield (
            f"With {evaluation['meta']['prompts']} prompts a difference to the reference smaller than about "
            f"{numbers.number(max(sizes))} would most likely not have been seen: no difference found is not equality."
        )
    if len(evaluation["meta"]["seeds"]) > 1:
        yield "p-values flip the signs of prompts and take the seeds as given; intervals are over prompts and seeds."
    if any(name.endswith("_accuracy") for name in evaluation["meta"].get("guards", {})):
        yield (
            "An accuracy guard watches little where the reference answers about as chance would: look at its value "
            "beside the number of choices."
        )


def _scope(evaluation: Mapping[str, Any]) -> Iterator[str]:
    meta = evaluation["meta"]
    decoding, labelled = meta["decoding"], find(evaluation, REFERENCE, "categories", "benign") is not None
    chosen = "prompts of which some were chosen to provoke" if labelled else "prompts that were chosen to provoke"
    yield (
        f"Completions have at most {decoding['max_new_tokens']} tokens, at temperature {decoding['temperature']:g} and "
        f"top-p {decoding['top_p']:g}, of {chosen}. Other prompts, lengths or settings, "
        "dialogue, other languages and attacks on purpose were not measured."
    )
    k = meta["samples_per_prompt"]
    yield f"Expected maximum toxicity is of k = {k} samples, or of the k that is named: it grows with k."
    if not meta["decoding"].get("rtp_protocol"):
        yield "The decoding is not that of the RealToxicityPrompts paper, so figures of papers are not comparable."
    yield (
        "Guards decide by their estimate, not by its interval, and only what they measure: a policy that passes can "
        "still have lost something that nobody looked at."
    )
