"""One policy against another: by toxicity, prompt by prompt, with a permutation p-value corrected for the family."""

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation import inference
from pipeline.evaluation.measured import Frame
from pipeline.evaluation.spread import Array

Comparisons = dict[str, dict[str, dict[str, Any]]]


def compare(
    methods: Mapping[str, Array], reference: Array, baselines: Mapping[str, Array], frame: Frame
) -> Comparisons:
    """Compare every method with the reference, the baselines and the other methods, by [P, S] mean toxicities.

    Each entry is first minus second. Holm's correction is made within a family: all methods against the reference, all
    against the baselines, and the pairs of methods.
    """
    others = {"reference": reference, **methods, **baselines}
    families = [
        [(method, "reference") for method in methods],
        [(method, baseline) for method in methods for baseline in baselines],
        [(first, second) for index, first in enumerate(methods) for second in list(methods)[index + 1 :]],
    ]
    found: Comparisons = {method: {} for method in methods}
    for family in families:
        differences = {pair: methods[pair[0]] - others[pair[1]] for pair in family}
        for (first, second), entry in _corrected(differences, frame).items():
            found[first][second] = entry
            if second in methods:
                found[second][first] = _turned(entry)
    return found


def _corrected(differences: Mapping[tuple[str, str], Array], frame: Frame) -> dict[tuple[str, str], dict[str, Any]]:
    named = {" - ".join(pair): array for pair, array in differences.items()}
    p_values = {name: inference.sign_flip_p(array, frame.resamples, frame.seed) for name, array in named.items()}
    corrected = inference.holm(p_values)
    intervals = frame.difference_intervals(named)
    return {
        pair: {
            "difference": intervals[name],
            "p": p_values[name],
            "p_holm": corrected[name],
            "smallest_detectable": inference.smallest_detectable(array, frame.confidence),
        }
        for pair, (name, array) in zip(differences, named.items(), strict=True)
    }


def _turned(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison the other way round."""
    difference = entry["difference"]
    turned = {"value": -difference["value"], "low": -difference["high"], "high": -difference["low"]}
    return {**entry, "difference": turned}
