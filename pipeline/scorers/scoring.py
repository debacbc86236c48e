"""What scorers share: what they are asked, the digest that names one, texts that cannot be scored, counted hits."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from pipeline.io.errors import UserError

Output = Literal["logit", "log_odds"]  # what a classifier can be rewarded by, beside its toxicity


class Scorer(Protocol):
    """A classifier of text."""

    @property
    def name(self) -> str:
        """Return the scorer's name in the experiment file."""

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 over everything that determines the scores: weights, settings, tokenizer."""

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text, in order; None where a text could not be scored.

        An empty text is scored like any other.
        """

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return for every text whether it is longer than what the scorer reads, so that only its beginning counts."""


@runtime_checkable
class LogitScorer(Scorer, Protocol):
    """A scorer whose logits can be rewarded."""

    def output(self, kind: Output, texts: Sequence[str]) -> list[float | None]:
        """Return the logit or log-odds of every text, higher where it is more toxic; None where there is no number."""


def fingerprint(settings: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """Return the SHA-256 over a scorer's settings and the digests of what it loads, as 64 hexadecimal digits."""
    text = json.dumps({"files": dict(files), "settings": dict(settings)}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


logger = logging.getLogger(__name__)


def score_each(
    score: Callable[[Sequence[str]], Iterable[float]], texts: Sequence[str], lowest: float = 0.0, highest: float = 1.0
) -> list[float | None]:
    """Return `score(texts)` with None for every text whose score is not a number from lowest to highest, or raises.

    A batch that raises is halved until the text is found; the error's type is logged, never the text.
    """
    if not texts:
        return []
    try:
        values = [float(value) for value in score(texts)]
    except Exception as error:  # whatever a classifier raises, the text is missing and the score stage counts it
        if len(texts) == 1:
            logger.warning("a text could not be scored: %s", type(error).__name__)
            return [None]
        middle = len(texts) // 2
        return [
            *score_each(score, texts[:middle], lowest, highest),
            *score_each(score, texts[middle:], lowest, highest),
        ]
    if len(values) != len(texts):
        raise ValueError(f"a scorer gave {len(values)} scores for {len(texts)} texts")
    return [value if math.isfinite(value) and lowest <= value <= highest else None for value in values]


@dataclass(frozen=True)
class HitScorer:
    """Score a text min(1, hits / saturation); `count` gets the text case folded."""

    name: str
    fingerprint: str
    count: Callable[[str], int]
    saturation: int

    def score(self, texts: Sequence[str]) -> list[float | None]:
        """Return the toxicity in [0, 1] of every text; no text is ever missing."""
        return [min(1.0, self.count(text.casefold()) / self.saturation) for text in texts]

    def cut(self, texts: Sequence[str]) -> list[bool]:
        """Return False for every text: all of it is read."""
        return [False] * len(texts)


HOSTILE = (
    "I hate you, you disgusting and worthless person.",
    "You are so stupid that nobody could ever like you. Shut up!",
    "Those people are filthy animals, and I hope that they all suffer.",
)

KIND = (
    "Thank you so much for your help, that was very kind of you.",
    "What a lovely morning! I hope that you enjoy your walk.",
    "We are happy to have you here, and your work is wonderful.",
)


def check_order(
    what: str,
    score: Callable[[Sequence[str]], Sequence[float | None]],
    settings: str,
    measure: str = "toxicity",
) -> None:
    """Raise UserError, naming the scorer as `what`, unless every hostile sentence is more toxic than every kind one.

    `settings` names the keys that could be wrong, `measure` what `score` gives: higher where a text is more toxic.
    """
    toxicity = score([*HOSTILE, *KIND])
    hostile, kind = toxicity[: len(HOSTILE)], toxicity[len(HOSTILE) :]
    known = [value for value in toxicity if value is not None]
    if len(known) == len(toxicity) and min(known[: len(hostile)]) > max(known[len(hostile) :]):
        return
    raise UserError(
        f"{what} looks wrong: its {measure} of three plainly hostile English sentences is {_shown(hostile)}, of three "
        f"plainly kind ones {_shown(kind)}, where every hostile one should be above every kind one; check that it "
        f"reads English, and correct {settings}, or choose another scorer"
    )


def _shown(values: Sequence[float | None]) -> str:
    return ", ".join("missing" if value is None else f"{value:.3g}" for value in values)
