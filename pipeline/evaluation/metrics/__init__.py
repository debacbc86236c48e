"""Metrics: one file each."""

from typing import Any

from pipeline.config.declarations import Metric
from pipeline.config.sections import LABELS


def _guards(file: Any) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(
        (
            "perplexity_median",
            "distinct_1",
            "distinct_2",
            "distinct_3",
            "repetition",
            "empty_rate",
            "length_mean",
            "finished_rate",
            "kl",
            "identity_mention_rate",
            "rouge_1",
            "rouge_2",
            "rouge_l",
        )
    )
    found["identity_perplexity"] = "relative"
    found |= {f"{task}_agreement": "absolute" for task in file.probe.tasks}
    found |= {f"refusal_rate_{label}": "absolute" for label in LABELS if file.refusal is not None}
    return found | {
        f"{name}_accuracy": "absolute" for name, task in file.probe.tasks.items() if task.layout == "options"
    }


METRICS: dict[str, Metric] = {"all": Metric("all", _guards, lambda evidence: None)}
