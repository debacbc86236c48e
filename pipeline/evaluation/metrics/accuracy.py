"""What a policy still knows: how often it chooses the right answer of a question, for tasks that say which is right."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from pipeline.config.declarations import Metric
from pipeline.evaluation.measure import ItemMean, Outputs
from pipeline.scorers.identity import IDENTITY


def _measure(outputs: Outputs) -> dict[str, ItemMean]:
    found = {}
    for task, grid in outputs.probed.grids.items():
        if task != IDENTITY and not np.isnan(grid.labels).all():
            is_right = (grid.chosen(outputs.policy) == grid.labels[:, None]).astype(np.float64)
            found[f"{task}_accuracy"] = ItemMean(is_right, bounds=(-1.0, 1.0))
    return found


def _watched(file: Any) -> Iterator[str]:
    return (f"{name}_accuracy" for name, task in file.probe.tasks.items() if task.layout == "options")


METRIC = Metric(
    "accuracy",
    "capability: share of {task} questions answered right",
    _measure,
    watched=_watched,
    change="absolute",
)
