"""The comparison table by label of the prompts: toxicity, and how often a policy declines, which is no toxicity."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline.evaluation import cells
from pipeline.evaluation.cells import Sheet
from pipeline.evaluation.shape import ALL, LABELS


def sheets(evaluation: Mapping[str, Any], wide: bool) -> list[Sheet]:
    """Return toxicity by label of the prompts and refusals by label, each where the evaluation has it."""
    meta = evaluation["meta"]
    rates = {policy: evaluation[policy].get("refusal", {}) for policy in meta["policies"]}
    toxicity = {
        policy: {
            label: {**found["toxicity_mean"], "difference": found.get("difference")}
            for label, found in evaluation[policy].get("categories", {}).items()
        }
        for policy in meta["policies"]
    }
    named = {
        f"Toxicity by label of the prompts, by {meta['primary_judge']}": (toxicity, LABELS),
        "Refusals, which are no toxicity: share of completions that decline": (rates, (*LABELS, ALL)),
    }
    return [sheet for title, (found, labels) in named.items() for sheet in _by_label(title, found, labels, wide)]


def footnote(meta: Mapping[str, Any]) -> str:
    """Return what a reader must know of refusals; "" where they are not judged."""
    if meta.get("refusal_sha256") is None:
        return ""
    return (
        " Refusals: share of completions that decline, by the judge of refusals. On hostile prompts that can be right, "
        "on benign ones it is over-refusal; neither says anything about toxicity."
    )


def _by_label(title: str, found: Mapping[str, Mapping[str, Any]], labels: Sequence[str], wide: bool) -> Iterator[Sheet]:
    """Yield one sheet with an estimate and a difference a label; none where no prompt is labelled."""
    there = [label for label in labels if all(label in by_label for by_label in found.values())]
    shown = [label for label in there if wide or label != ALL]
    if shown:
        # In 80 columns there is just room for two intervals beside two numbers.
        header = [name for label in shown for name in (f"on\n{label}", "minus\nreference")]
        rows = [
            (policy, *(cell for label in shown for cell in _label_cells(by_label[label], wide)))
            for policy, by_label in found.items()
        ]
        yield Sheet(title, ("policy", *header), rows)


def _label_cells(found: Mapping[str, Any], wide: bool) -> tuple[str, str]:
    difference = found.get("difference")
    return cells.estimate(found, wide), cells.interval(difference, sign="+") if difference else ""
