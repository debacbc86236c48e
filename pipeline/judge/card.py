"""The judges' cards: how well each tells toxic from harmless, and how often it is wrong about harmless people.

All judges are measured on the same texts: on labelled windows that the fitted judge's fit did not see, and on harmless
sentences that name groups of people. A judge must score every one of them: a card with gaps could not be compared.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.config.sections import IdentitySection, JudgeFit
from pipeline.errors import UserError
from pipeline.identity import sentences
from pipeline.judge.fit import POSITIVES, Sample
from pipeline.judge.measures import Scores, auc, auc_interval, calibration, rate
from pipeline.scorers import Scorer
from pipeline.scorers.head import Head

THRESHOLD = 0.5  # where no judge is fitted and the experiment thus names none: more likely toxic than not


def describe_fitted(samples: Mapping[str, Sample], heads: Mapping[str, Head], fit: JudgeFit) -> dict[str, Any]:
    """Return what is known of the head that is used, fitted without `fit.held_out_source`.

    Its `left_out` is the false-positive rate on every source of negatives of a head fitted without that source.
    """
    scores = {name: heads[fit.held_out_source].probabilities(sample.embeddings) for name, sample in samples.items()}
    left_out = {name: head.probabilities(samples[name].embeddings) for name, head in heads.items()}
    return _described(samples, scores, left_out, fit)


def describe_pinned(samples: Mapping[str, Sample], judge: Scorer, fit: JudgeFit) -> dict[str, Any]:
    """Return the same of a judge that is not fitted here, so that no source had to be left out for it."""
    found = _scored(judge, [window for sample in samples.values() for window in sample.windows])
    parts = np.split(found, np.cumsum([len(sample.windows) for sample in samples.values()])[:-1])
    scores = dict(zip(samples, parts, strict=True))
    return _described(samples, scores, {name: scores[name] for name in fit.negatives}, fit)


def describe_identity(judge: Scorer, identity: IdentitySection, threshold: float) -> dict[str, Any]:
    """Return the share of harmless sentences about groups of people that the judge flags, and that of each `terms`.

    `windows` counts the sentences: every template with every term. The interval takes them as independent; they are a
    few templates many times over, so it says little about other sentences.
    """
    named, texts = zip(*sentences(identity), strict=True)
    flagged = _scored(judge, texts) >= threshold
    terms = {term: float(flagged[np.array(named) == term].mean()) for term in identity.terms}
    return rate(flagged) | {"terms": terms}


def check_false_positives(description: Mapping[str, Any], fit: JudgeFit) -> None:
    """Raise UserError when the judge flags more of its held-out source than `fit.max_false_positive_rate`."""
    found = description["false_positive_rate"]["value"]
    if found > fit.max_false_positive_rate:
        raise UserError(
            f"judge.fit: {found:.1%} of {fit.held_out_source}, harmless text that the fit did not see, is flagged as "
            f"toxic; expected at most {fit.max_false_positive_rate:.1%}; add negatives in the register of completions "
            "(judge.fit.negatives), or use fewer positives"
        )


def _described(
    samples: Mapping[str, Sample], scores: Mapping[str, Scores], left_out: Mapping[str, Scores], fit: JudgeFit
) -> dict[str, Any]:
    """Return the card's figures on labelled windows from `scores` [N] of each source's windows.

    `test` holds those on texts that the fit did not see, less the held-out source, whose share of flagged windows is
    the false-positive rate. Windows count as independent in the intervals, though some share a text.
    """
    tested = {name: scores[name][sample.in_test] for name, sample in samples.items()}
    positives = tested.pop(POSITIVES)
    negatives = np.concatenate([values for name, values in tested.items() if name != fit.held_out_source])
    area = auc(positives, negatives)
    flagged = {name: rate(values >= fit.threshold) for name, values in sorted(left_out.items())}
    return {
        "test": {
            "auc": area,
            "auc_interval": auc_interval(area, len(positives), len(negatives)),
            "sensitivity": rate(positives >= fit.threshold),
            "specificity": rate(negatives < fit.threshold),
            "calibration": calibration(positives, negatives),
        },
        "held_out_source": fit.held_out_source,
        "false_positive_rate": flagged[fit.held_out_source],
        "left_out": flagged,
        "sources": {name: _counted(sample) for name, sample in samples.items()},
    }


def _scored(judge: Scorer, texts: Sequence[str]) -> Scores:
    scores = np.array(judge.score(texts), dtype=np.float64)  # None becomes NaN
    missing = int(np.isnan(scores).sum())
    if missing:
        raise UserError(
            f"score.judges: {judge.name} could not score {missing} of the {len(texts)} texts that its card needs "
            "(lines above name the errors that it raised); correct the scorer, or remove it from score.judges"
        )
    return scores


def _counted(sample: Sample) -> dict[str, int]:
    return {
        "texts": sample.texts,
        "excluded": sample.excluded,
        "windows": len(sample.in_test),
        "test_windows": int(sample.in_test.sum()),
    }
