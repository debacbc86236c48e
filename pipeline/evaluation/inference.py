"""One policy against another, prompt by prompt: could chance alone have made it, and what could this sample not see?

Shapes: P prompts, S seeds. A missing value is NaN and takes no part.
"""

import math
from collections.abc import Mapping
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np

from pipeline.evaluation.measure import Frame
from pipeline.evaluation.statistics import Array, Uncertainty, components

Comparisons = dict[str, dict[str, dict[str, Any]]]
_CHUNK_CELLS = 2_000_000  # signs held at once: 16 MB
_TOLERANCE = 1e-12  # of the observed sum: what counts as equal to it after rounding
_MARGIN_DRAWS = 50_000  # of the integral over normal and chi-square distributions: 1 % of its value


def sign_flip_p(differences: Array, resamples: int, seed: int) -> float:
    """Return the two-sided p-value of paired differences [P, S] under flips of the signs of whole prompts.

    Under the null hypothesis a prompt's difference is as likely to be +d as -d, because the two policies could change
    names (Fisher 1935; Pesarin and Salmaso 2010, paired data). All seeds of a prompt flip together, so they
    count as one observation, and with several seeds the p-value conditions on these seeds: it asks whether *these
    trained policies* differ beyond the luck of prompts and sampling, and says nothing of training again with other
    seeds. The interval of `statistics` does; where seeds differ much it can hold 0 while p is small.

    Exact, over all 2^P flips, where those are at most `resamples`; else a sample of `resamples` flips and the
    observed one, (b + 1) / (m + 1) (Phipson and Smyth 2010), which is never 0. NaN where no prompt has a difference.
    """
    sums = np.nansum(differences, axis=1)[~np.isnan(differences).all(axis=1)]
    if not sums.size:
        return float("nan")
    observed = abs(sums.sum()) - _TOLERANCE * np.abs(sums).sum()
    exact = sums.size < 63 and 2**sums.size <= resamples
    flips = 2**sums.size if exact else resamples
    generator = np.random.default_rng(seed)
    rows = max(1, _CHUNK_CELLS // sums.size)
    as_far = 0
    for start in range(0, flips, rows):
        numbers = np.arange(start, min(start + rows, flips))
        if exact:  # the bits of a number are one choice of prompts
            chosen = (numbers[:, None] >> np.arange(sums.size)) & 1
        else:
            chosen = generator.integers(0, 2, size=(numbers.size, sums.size), dtype=np.int8)
        flipped = sums.sum() - 2 * (chosen.astype(np.float64) @ sums)
        as_far += int(np.count_nonzero(np.abs(flipped) >= observed))
    return as_far / flips if exact else (as_far + 1) / (flips + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number (Holm 1979); a p-value that is NaN stays NaN and takes no part.

    Where those at most 5 % are called differences, the chance of any false one among them all is at most 5 %.
    """
    corrected = dict(p_values)
    family = sorted((name for name, p in p_values.items() if not math.isnan(p)), key=lambda name: p_values[name])
    largest = 0.0
    for rank, name in enumerate(family):
        largest = max(largest, min(1.0, (len(family) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def smallest_detectable(differences: Array, confidence: float, power: float = 0.8) -> float:
    """Return the smallest true mean difference that a sample like these differences [P, S] finds with `power`.

    Found means that its interval lies off 0. It is the half-width of a symmetric interval from the same variance
    components as those of `statistics`, plus what a normal estimate stays within with probability `power`
    (the minimum detectable effect of Bloom 1995, there with one t for both). NaN with fewer than two prompts.
    """
    found = components(differences)
    if found.degrees[0] < 1:
        return float("nan")
    normal, uncertainty = _integral()
    margin = float(np.quantile(np.abs(normal) * np.sqrt(uncertainty.variances(found)), confidence))
    return margin + NormalDist().inv_cdf(power) * math.sqrt(found.variance)


@cache
def _integral() -> tuple[Array, Uncertainty]:
    """Return draws of a numerical integral: the same for every sample, so that equal samples give equal results."""
    generator = np.random.default_rng(0)
    return generator.standard_normal(_MARGIN_DRAWS), Uncertainty(_MARGIN_DRAWS, generator)


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
    p_values = {name: sign_flip_p(array, frame.resamples, frame.seed) for name, array in named.items()}
    corrected = holm(p_values)
    intervals = frame.difference_intervals(named)
    return {
        pair: {
            "difference": intervals[name],
            "p": p_values[name],
            "p_holm": corrected[name],
            "smallest_detectable": smallest_detectable(array, frame.confidence),
        }
        for pair, (name, array) in zip(differences, named.items(), strict=True)
    }


def _turned(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return a comparison the other way round."""
    difference = entry["difference"]
    turned = {"value": -difference["value"], "low": -difference["high"], "high": -difference["low"]}
    return {**entry, "difference": turned}
