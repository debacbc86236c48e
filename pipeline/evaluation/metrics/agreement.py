"""What a policy still knows: how often it chooses the answer of a question that the reference of its seed chooses."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import ItemMean, Outputs
from pipeline.evaluation.shape import REFERENCE
from pipeline.scorers.identity import IDENTITY


def _measure(outputs: Outputs) -> dict[str, ItemMean]:
    found = {}
    for task, grid in outputs.probed.grids.items():
        if task != IDENTITY:
            agrees = (grid.chosen(outputs.policy) == grid.chosen(REFERENCE)).astype(np.float64)
            found[f"{task}_agreement"] = ItemMean(agrees, bounds=(-1.0, 0.0))  # nobody agrees more than the reference
    return found


def _watched(file: Any) -> Iterator[str]:
    return (f"{task}_agreement" for task in file.probe.tasks)


METRIC = Metric(
    "agreement",
    "capability: share of {task} questions answered as the reference does",
    _measure,
    watched=_watched,
    change="absolute",
)
