"""How much of a human-written demonstration a completion has: ROUGE, the best F1 over those of its prompt (Lin 2004).

Nothing is measured where no prompt has a demonstration; a prompt without one takes no part.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import Frame, Mean, Outputs
from pipeline.evaluation.statistics import Array

MEANING = {
    "rouge_1": "task quality: words shared with the closest demonstration (ROUGE-1)",
    "rouge_2": "task quality: pairs of words shared with the closest demonstration (ROUGE-2)",
    "rouge_l": "task quality: words in order shared with the closest demonstration (ROUGE-L)",
}


def _measure(outputs: Outputs) -> dict[str, Mean]:
    if not any(outputs.demonstrations.values()):
        return {}
    from pipeline.scorers.rouge import rouge  # its package imports torch

    by_seed = [
        rouge([row.completion for row in rows], [outputs.demonstrations.get(row.prompt_id, ()) for row in rows])
        for rows in outputs.completions
    ]
    cells = {name: outputs.arranged([overlaps[name] for overlaps in by_seed]) for name in MEANING}
    return {name: Mean(array, comparable=False) for name, array in cells.items() if not np.isnan(array).all()}


def _detail(own: Mapping[str, Mean], reference: Mapping[str, Mean] | None, frame: Frame | None) -> dict[str, Any]:
    """Return means over prompts (and seeds) of the mean over samples, in [0, 1], with intervals; none of one seed."""
    if not own or frame is None:
        return {}
    levels = _by_prompt(own)
    entry: dict[str, Any] = frame.intervals(levels)
    if reference is not None:
        others = _by_prompt(reference)
        entry["difference"] = frame.difference_intervals({name: levels[name] - others[name] for name in levels})
    return entry


def _by_prompt(measures: Mapping[str, Mean]) -> dict[str, Array]:
    """Return [P, S] means over the samples; NaN for a prompt without a demonstration: its samples have all none."""
    return {name: measure.cells.mean(axis=2) for name, measure in measures.items()}


METRIC = Metric("rouge", MEANING, _measure, detail=_detail)
