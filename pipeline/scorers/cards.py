"""The judges' cards: how well each tells toxic from harmless, and how often it is wrong about harmless people.

All judges are measured on the same texts: on labelled windows that the fitted judge's fit did not see, and on harmless
sentences that name groups of people. A judge must score every one of them: a card with gaps could not be compared.
Intervals are of 95 % and take texts as independent of each other.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import IdentitySection, JudgeFit, LabelledReplies, RefusalSection
from pipeline.io import records
from pipeline.io.errors import UserError
from pipeline.scorers.embedding_head import Head
from pipeline.scorers.fitting import POSITIVES, Sample
from pipeline.scorers.identity import sentences
from pipeline.scorers.scoring import Scorer

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


ORIGIN = "origin"  # the field that says where a reply is from, where the file has it
_KEYS = "refusal.labelled"


@dataclass(frozen=True)
class Reply:
    """A reply, whether it refuses, and where it is from: None where the file does not say."""

    text: str
    refuses: bool
    origin: str | None


def describe_refusal(judge: Scorer, refusal: RefusalSection, raw: Path) -> dict[str, Any]:
    """Return the card: which judge it is, and its figures where there are labelled replies.

    `sensitivity` is the share of refusals that it finds, `specificity` that of other replies that it lets pass, both
    with their interval and how many there are as `windows`; `by_origin` tells the same of each origin that the file
    names, less what it has no reply for. Raises UserError naming file and line of a row that is malformed.
    """
    known = {"scorer": judge.name, "kind": refusal.scorer.kind, "fingerprint": judge.fingerprint}
    if refusal.labelled is None:
        return known | {"labelled": 0}
    replies = read_replies(raw / refusal.labelled.file, refusal.labelled)
    found = _found(judge, replies)
    origins = sorted({reply.origin for reply in replies if reply.origin is not None})
    by_origin = {origin: _rates(*_of(origin, replies, found)) for origin in origins}
    return known | {"labelled": len(replies)} | _rates(replies, found) | ({"by_origin": by_origin} if origins else {})


def read_replies(path: Path, labelled: LabelledReplies) -> list[Reply]:
    """Read labelled replies; raise UserError naming file and line of a malformed row, and where one kind is lacking."""
    rows = records.read_jsonl(path)
    has_origins = any(ORIGIN in row for row in rows)
    replies = [_reply(f"{path}:{number}", row, labelled, has_origins) for number, row in enumerate(rows, start=1)]
    for refuses in (True, False):
        if not any(reply.refuses is refuses for reply in replies):
            wanted = f"{labelled.label!r} is {str(refuses).lower()}"
            raise UserError(f"{path}: expected a reply of which {wanted}, found none; add some, or correct {_KEYS}")
    return replies


def _reply(place: str, row: dict[str, Any], labelled: LabelledReplies, has_origins: bool) -> Reply:
    text, refuses, origin = row.get(labelled.field), row.get(labelled.label), row.get(ORIGIN)
    if not isinstance(text, str):
        raise UserError(f"{place}: {labelled.field}: expected a text; correct the row, or {_KEYS}.field")
    if not isinstance(refuses, bool):
        raise UserError(f"{place}: {labelled.label}: expected true or false; correct the row, or {_KEYS}.label")
    if has_origins and not (isinstance(origin, str) and origin):
        raise UserError(f"{place}: {ORIGIN}: expected a name, as other rows have one; correct the row")
    return Reply(text, refuses, origin)


def _found(judge: Scorer, replies: Sequence[Reply]) -> list[bool]:
    scores = judge.score([reply.text for reply in replies])
    if None in scores:
        raise UserError(
            f"{_KEYS}: {judge.name} could not score {scores.count(None)} of {len(scores)} replies that its card needs; "
            "correct refusal.scorer, or remove these replies"
        )
    return [score == 1 for score in scores]


def _of(origin: str, replies: Sequence[Reply], found: Sequence[bool]) -> tuple[list[Reply], list[bool]]:
    kept = [index for index, reply in enumerate(replies) if reply.origin == origin]
    return [replies[index] for index in kept], [found[index] for index in kept]


def _rates(replies: Sequence[Reply], found: Sequence[bool]) -> dict[str, Any]:
    refuses, flagged = np.array([reply.refuses for reply in replies]), np.array(found)
    rates = {}
    if refuses.any():
        rates["sensitivity"] = rate(flagged[refuses])
    if not refuses.all():
        rates["specificity"] = rate(~flagged[~refuses])
    return rates
