"""How well scores in [0, 1] tell positives (toxic) from negatives: shares, ranking and calibration, as plain numbers.

Intervals are of 95 % and take texts as independent of each other.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
BINS = 10  # equal bins of [0, 1], each without its lower and with its upper edge, the first with both (as scikit-learn)

Scores = NDArray[np.float64]


def rate(hits: NDArray[np.bool_]) -> dict[str, float]:
    """Return the share of hits [N] with its interval after Wilson (1927), and N, at least 1, as `windows`."""
    from scipy.stats import binomtest

    test = binomtest(int(hits.sum()), len(hits))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return {
        "value": float(test.statistic),
        "low": float(interval.low),
        "high": float(interval.high),
        "windows": len(hits),
    }


def auc(positives: Scores, negatives: Scores) -> float:
    """Return the probability that a positive scores above a negative; a tie counts half."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(*_labelled(positives, negatives)))


def auc_interval(value: float, positives: int, negatives: int) -> dict[str, float]:
    """Return the AUCs that `value`, measured on so many texts, does not contradict, as `low` and `high`.

    The variance is that of Hanley and McNeil (1982), taken at the bound and not at `value` (Newcombe 2006): as with
    Wilson's interval the bounds stay in [0, 1], and a perfect ranking of few texts is no proof of a perfect judge. It
    assumes skewed scores: with normal ones it is up to twice as wide as needed where the AUC is near 1.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    reach = float(norm.ppf(0.5 + CONFIDENCE / 2))

    def beyond(bound: float) -> float:
        return abs(value - bound) - reach * _standard_error(bound, positives, negatives)

    # Both lie on the far side of `value`, where `beyond` is negative; at 0 and 1 the standard error is 0.
    nearest = min(max(value, 1e-9), 1 - 1e-9)
    return {
        "low": float(brentq(beyond, 0.0, nearest)) if value > 0 else 0.0,
        "high": float(brentq(beyond, nearest, 1.0)) if value < 1 else 1.0,
    }


def calibration(positives: Scores, negatives: Scores) -> dict[str, Any]:
    """Return what scores are worth as probabilities: `brier`, `ece`, and the `bins` of a reliability diagram.

    `brier` is the mean squared error (Brier 1950), `ece` the mean over texts of how far the score in a bin lies from
    the share of positives there (Naeini et al. 2015; Guo et al. 2017, eq. 3), both 0 at best. A bin without texts has
    neither mean score nor share: they are None. All three depend on the share of positives among these texts and on
    who labelled them: a judge that is calibrated here need not be so on completions, which are toxic less often.
    """
    from sklearn.metrics import brier_score_loss

    labels, scores = _labelled(positives, negatives)
    edges = np.linspace(0.0, 1.0, BINS + 1)
    places = np.searchsorted(edges[1:-1], scores)
    members = [places == place for place in range(BINS)]
    gaps = [abs(float((scores[inside] - labels[inside]).sum())) for inside in members]
    return {
        "brier": float(brier_score_loss(labels, scores)),
        "ece": sum(gaps) / len(scores),
        "bins": {
            str(place): {
                "low": float(edges[place]),
                "high": float(edges[place + 1]),
                "mean": float(scores[inside].mean()) if inside.any() else None,
                "toxic": float(labels[inside].mean()) if inside.any() else None,
                "windows": int(inside.sum()),
            }
            for place, inside in enumerate(members)
        },
    }


def _labelled(positives: Scores, negatives: Scores) -> tuple[NDArray[np.int64], Scores]:
    return np.repeat([1, 0], [len(positives), len(negatives)]), np.concatenate([positives, negatives])


def _standard_error(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of a measured AUC where the true one is `area` (Hanley and McNeil 1982, eq. 1-2)."""
    above = area / (2 - area)  # two positives above one negative
    below = 2 * area**2 / (1 + area)  # one positive above two negatives
    variance = area * (1 - area) + (positives - 1) * (above - area**2) + (negatives - 1) * (below - area**2)
    return math.sqrt(max(0.0, variance) / (positives * negatives))
