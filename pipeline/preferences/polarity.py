"""Does the answer that a preference data set calls chosen look like the better one? The polarity lint.

A data set says which answer people, or its author, preferred, and not for what. In one that was made to take a model's
refusals away, the chosen answer is the harmful one, and training on it as it is labelled would undo what is to be had.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from pipeline.config.sections import DatasetPreferences, PolarityLint
from pipeline.io.errors import UserError
from pipeline.preferences.pairs import Pair
from pipeline.scorers.scoring import Scorer

logger = logging.getLogger(__name__)

BENIGN = "benign"  # the category of prompts that deserve an answer
CONFIDENCE = 0.95
_OTHER = {"as_labelled": "swapped", "swapped": "as_labelled"}

Side = Literal["chosen", "rejected"]


@dataclass(frozen=True)
class Answer:
    """What is known of one answer: toxicity and refusal in [0, 1], None where a scorer could not tell.

    An answer that the judge of refusals does not flag counts as one that complies, also where it evades.
    """

    toxicity: float | None
    refusal: float | None

    @property
    def refuses(self) -> bool | None:
        """Tell whether it declines; None where that is not known."""
        return None if self.refusal is None else self.refusal >= 0.5


def more_toxic(chosen: Answer, rejected: Answer, margin: float) -> Side | None:
    """Return the answer that is the more toxic one by at least `margin`, None where neither is or one is not scored."""
    if chosen.toxicity is None or rejected.toxicity is None:
        return None
    difference = chosen.toxicity - rejected.toxicity
    if abs(difference) < margin or difference == 0:
        return None
    return "chosen" if difference > 0 else "rejected"


def complying(chosen: Answer, rejected: Answer) -> Side | None:
    """Return the answer that complies where the other one refuses, None where both do the same or one is not known."""
    if chosen.refuses is None or rejected.refuses is None or chosen.refuses == rejected.refuses:
        return None
    return "rejected" if chosen.refuses else "chosen"


def worse(chosen: Answer, rejected: Answer, margin: float, is_benign: bool) -> Side | None:
    """Return which answer is the worse one, None where that is not decided.

    Where one refuses and the other complies, it is the one that complies, unless the one that refuses is clearly the
    more toxic: then nothing is decided. Else it is the one that is more toxic by the margin.

    That to comply is worse holds where prompts ask for harm, as in data sets about harmlessness; an answer to a
    harmless request that refuses is the worse one, and the lint would be wrong about a data set of help. So it does not
    look at refusals where a prompt is known to be `benign`. Where data has no such categories, refusals are believed:
    a false alarm costs a sentence in `preferences.polarity_override`, a missed one un-aligns the model.

    With alt-profanity-check and a margin of 0.2 the chosen answers are the worse ones in 33 % [29, 38] of 438 decided
    pairs of hh-rlhf's harmless test set, and in 0.2 % [0.2, 0.3] of 10,947 of ParaDetox; swapped, in the rest.
    """
    toxic = more_toxic(chosen, rejected, margin)
    complies = None if is_benign else complying(chosen, rejected)
    if complies is None or complies == toxic:
        return toxic
    return complies if toxic is None else None


def lint(pairs: Sequence[Pair], refusal: Scorer, section: PolarityLint, benign: Collection[str]) -> dict[str, Any]:
    """Return in which share of pairs the chosen answer is the worse one, and what that says of their polarity.

    `benign` are the ids of prompts that deserve an answer. `chosen_worse` is a share of the pairs that could be
    decided, with its 95 % interval (Wilson 1927); `verdict` is `contradicts` where all of the interval is above
    `section.max_chosen_worse`, `agrees` where none of it is, else, and where less than `section.min_decided` of the
    pairs could be decided, `unclear`. `by_toxicity` and `by_refusal` are what either sign alone would say.
    """
    chosen = _answers([pair.chosen for pair in pairs], [pair.chosen_toxicity for pair in pairs], refusal)
    rejected = _answers([pair.rejected for pair in pairs], [pair.rejected_toxicity for pair in pairs], refusal)
    sides = list(zip(chosen, rejected, strict=True))
    found = [
        worse(*answers, section.margin, pair.prompt_id in benign) for answers, pair in zip(sides, pairs, strict=True)
    ]
    by_toxicity = [more_toxic(*answers, section.margin) for answers in sides]
    by_refusal = [complying(*answers) for answers in sides]
    overall = _shares(found)
    return {
        **overall,
        "undecided": len(pairs) - overall["decided"],
        "by_toxicity": _shares(by_toxicity),
        "by_refusal": _shares(by_refusal),
        "chosen": _means(chosen),
        "rejected": _means(rejected),
        "verdict": _verdict(overall, len(pairs), section),
    }


def check_polarity(found: dict[str, Any], preferences: DatasetPreferences) -> None:
    """Refuse pairs whose polarity the lint contradicts, with UserError, unless the experiment gives a reason not to.

    With a reason, and where the lint cannot tell, that is said in a line of log.
    """
    declared = f"polarity {preferences.polarity} of the data set's pairs"
    if found["verdict"] == "agrees":
        logger.info("%s: agrees with the lint: %s", declared, _said(found, preferences))
    elif found["verdict"] == "unclear":
        logger.warning("%s: the lint cannot tell: %s", declared, _said(found, preferences))
    elif preferences.polarity_override is not None:
        logger.warning(
            "%s: CONTRADICTED by the lint and trained on all the same; preferences.polarity_override says %r: %s",
            declared,
            preferences.polarity_override,
            _said(found, preferences),
        )
    else:
        raise UserError(
            f"preferences.polarity: {preferences.polarity} is declared and contradicted: {_said(found, preferences)}; "
            f"training would teach the worse answers; write polarity: {_OTHER[preferences.polarity]}, or, if these are "
            "meant to be chosen, preferences.polarity_override: with the reason"
        )


def _said(found: dict[str, Any], preferences: DatasetPreferences) -> str:
    if not found["decided"]:
        return f"no pair in which either answer is worse, of {found['undecided']} (preferences.lint.margin)"
    share = found["chosen_worse"]
    return (
        f"the chosen answer is the worse one in {100 * share['value']:.1f} % of {found['decided']} decided pairs (95 % "
        f"interval {100 * share['low']:.1f} to {100 * share['high']:.1f} %), expected at most "
        f"{100 * preferences.lint.max_chosen_worse:g} % (preferences.lint.max_chosen_worse)"
    )


def _answers(texts: Sequence[str], toxicity: Sequence[float | None], refusal: Scorer) -> list[Answer]:
    return [Answer(*known) for known in zip(toxicity, refusal.score(texts), strict=True)]


def _shares(found: Sequence[Side | None]) -> dict[str, Any]:
    """Return of how many pairs something was found, and in which share of them it was the chosen answer."""
    decided = [side for side in found if side is not None]
    nothing: dict[str, float | None] = dict.fromkeys(("value", "low", "high"))
    return {"decided": len(decided), "chosen_worse": _share(decided) if decided else nothing}


def _share(decided: Sequence[Side]) -> dict[str, float]:
    from scipy.stats import binomtest

    hits = decided.count("chosen")
    interval = binomtest(hits, len(decided)).proportion_ci(CONFIDENCE, method="wilson")
    return {"value": hits / len(decided), "low": float(interval.low), "high": float(interval.high)}


def _means(answers: Sequence[Answer]) -> dict[str, float | None]:
    toxicity = [answer.toxicity for answer in answers if answer.toxicity is not None]
    refusals = [answer.refuses for answer in answers if answer.refuses is not None]
    rate = fmean(refusals) if refusals else None
    return {
        "toxicity_mean": fmean(toxicity) if toxicity else None,
        "refusal_rate": rate,
        "compliance_rate": None if rate is None else 1 - rate,
    }


def _verdict(overall: dict[str, Any], pairs: int, section: PolarityLint) -> str:
    if overall["decided"] < max(1, section.min_decided * pairs):
        return "unclear"
    if overall["chosen_worse"]["low"] > section.max_chosen_worse:
        return "contradicts"
    return "agrees" if overall["chosen_worse"]["high"] <= section.max_chosen_worse else "unclear"
