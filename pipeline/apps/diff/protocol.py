"""Whether the numbers of two evaluations may be set against each other at all."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

Evaluation = Mapping[str, Any]
# Another value makes every number another quantity. Expected maximum toxicity grows with samples_per_prompt.
SAME = ("prompts", "samples_per_prompt", "analyzed_samples", "confidence")
NOISE = {"seed"}  # of the decoding: another draw of the same noise
REFUSAL_JUDGE = "refusal_sha256"
# What the threshold decides, beside the mean.
BY_THRESHOLD = ("toxicity_probability", "toxic_fraction")
# Values that are measured with something of the parameters: with another of these they are other quantities.
MEASURED_WITH = {
    "identity.": re.compile("identity_"),
    "probe.tasks.": re.compile(".*_(accuracy|agreement)$"),
    "probe.seed": re.compile(".*_(accuracy|agreement)$"),
    "model.source.": re.compile("perplexity_|identity_perplexity|kl"),
    "model.build.": re.compile("identity_perplexity|kl"),
    **dict.fromkeys(("fluency.source.", "fluency.dtype", "fluency.max_tokens"), re.compile("perplexity_")),
}


def obstacles(old: Evaluation, new: Evaluation, prompts: tuple[set[str], set[str]]) -> list[str]:
    """Return, in words, everything that forbids to compare the two; nothing where their protocol is the same.

    `prompts` are the ids of the prompts on each side, empty where they are not known.
    """
    before, after = old["meta"], new["meta"]
    found = [_differs(key, before.get(key), after.get(key)) for key in SAME if before.get(key) != after.get(key)]
    decoding = [meta.get("decoding", {}) for meta in (before, after)]
    found += [
        _differs(f"decoding.{key}", decoding[0].get(key), decoding[1].get(key))
        for key in sorted({*decoding[0], *decoding[1]} - NOISE)
        if decoding[0].get(key) != decoding[1].get(key)
    ]
    if all(prompts) and prompts[0] != prompts[1] and before.get("prompts") == after.get("prompts"):
        found.append(f"{len(prompts[1] - prompts[0])} of the prompts are others")
    return found


def limits(old: Evaluation, new: Evaluation, changed: Iterable[str]) -> list[str]:
    """Return, in words, what can be compared in part only; `changed` are the keys of `MEASURED_WITH` that did."""
    before, after = old["meta"], new["meta"]
    found = [f"judge {name} is another: its numbers are not compared" for name in other_judges(old, new)]
    if not same_refusals(old, new) and None not in (before.get(REFUSAL_JUDGE), after.get(REFUSAL_JUDGE)):
        found.append("the judge of refusals is another: its rates are not compared")
    if before.get("threshold") != after.get("threshold"):
        change = _differs("threshold", before.get("threshold"), after.get("threshold"))
        found.append(f"{change}: {' and '.join(BY_THRESHOLD)} are not compared")
    found += [f"{name}* changed: what is measured with it is not compared" for name in sorted(changed)]
    if before.get("primary_judge") != after.get("primary_judge"):
        found.append(_differs("primary_judge", before.get("primary_judge"), after.get("primary_judge")))
    if before.get("seeds") != after.get("seeds"):
        found.append(_differs("seeds", before.get("seeds"), after.get("seeds")) + ": compared as independent")
    return found


def other_judges(old: Evaluation, new: Evaluation) -> list[str]:
    """Return the judges on both sides whose hash is not the same."""
    before, after = old["meta"]["judges"], new["meta"]["judges"]
    return [name for name in before if name in after and before[name] != after[name]]


def same_refusals(old: Evaluation, new: Evaluation) -> bool:
    """Tell whether both sides judged refusals, with the same judge."""
    before, after = (side["meta"].get(REFUSAL_JUDGE) for side in (old, new))
    return before is not None and before == after


def changed_measures(parameters: Iterable[str]) -> list[str]:
    """Return the keys of `MEASURED_WITH` that some of the changed parameters, as dotted keys, belong to."""
    return [prefix for prefix in MEASURED_WITH if any(name.startswith(prefix) for name in parameters)]


def is_measured_with(name: str, changed: Iterable[str]) -> bool:
    """Tell whether a guard's value is measured with one of these keys of `MEASURED_WITH`."""
    return any(MEASURED_WITH[key].match(name) for key in changed)


def _differs(key: str, old: object, new: object) -> str:
    return f"{key} {old} → {new}"
