"""The judge's card: what it was fitted on, how well it tells toxic from harmless, and how often it is wrong."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import JudgeFit
from pipeline.errors import UserError
from pipeline.judge.fit import POSITIVES, Sample
from pipeline.scorers import Scorer
from pipeline.scorers.head import Head

CONFIDENCE = 0.95


def describe_fit(samples: dict[str, Sample], heads: dict[str, Head], fit: JudgeFit) -> dict[str, Any]:
    """Return what is known of the head that is used, fitted without `fit.held_out_source`.

    `test` holds its figures on texts that the fit did not see; `left_out` the false-positive rate on every source of
    negatives of a head fitted without it. Windows count as independent in the intervals, though some share a text.
    """
    head = heads[fit.held_out_source]
    flagged = {name: head.probabilities(sample.tested) for name, sample in samples.items()}
    positives = flagged.pop(POSITIVES)
    negatives = np.concatenate([values for name, values in flagged.items() if name != fit.held_out_source])
    left_out = {
        name: _rate(heads[name].probabilities(samples[name].embeddings) >= fit.threshold) for name in sorted(heads)
    }
    return {
        "threshold": fit.threshold,
        "test": {
            "auc": _auc(positives, negatives),
            "sensitivity": _rate(positives >= fit.threshold),
            "specificity": _rate(negatives < fit.threshold),
        },
        "held_out_source": fit.held_out_source,
        "false_positive_rate": left_out[fit.held_out_source],
        "left_out": left_out,
        "sources": {name: _described(sample) for name, sample in samples.items()},
    }


def check_false_positives(description: dict[str, Any], fit: JudgeFit) -> None:
    """Raise UserError when the judge flags more of its held-out source than `fit.max_false_positive_rate`."""
    rate = description["false_positive_rate"]["value"]
    if rate > fit.max_false_positive_rate:
        raise UserError(
            f"judge.fit: {rate:.1%} of {fit.held_out_source}, harmless text that the fit did not see, is flagged as "
            f"toxic; expected at most {fit.max_false_positive_rate:.1%}. Add negatives in the register of completions "
            "(judge.fit.negatives), or fewer positives"
        )


def make_card(scorer: Scorer, kind: str, description: dict[str, Any] | None) -> dict[str, Any]:
    """Return the whole card; `description` is None for a pretrained judge, which is pinned by its fingerprint alone."""
    status = "pinned" if description is None else "fitted"
    identity = {"scorer": scorer.name, "kind": kind, "status": status, "fingerprint": scorer.fingerprint}
    return identity | (description or {})


def _rate(hits: NDArray[np.bool_]) -> dict[str, float]:
    """Return a share with its 95 % interval after Wilson (1927)."""
    from scipy.stats import binomtest

    test = binomtest(int(hits.sum()), len(hits))
    interval = test.proportion_ci(CONFIDENCE, method="wilson")
    return {
        "value": float(test.statistic),
        "low": float(interval.low),
        "high": float(interval.high),
        "windows": len(hits),
    }


def _auc(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> float:
    """Return the probability that a positive scores above a negative."""
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    return float(roc_auc_score(labels, np.concatenate([positives, negatives])))


def _described(sample: Sample) -> dict[str, int]:
    return {
        "texts": sample.texts,
        "excluded": sample.excluded,
        "windows": len(sample.in_test),
        "test_windows": int(sample.in_test.sum()),
    }
