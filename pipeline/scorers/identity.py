"""Harmless sentences that name groups of people, and whether a text names one of these groups."""

import re
from collections.abc import Sequence
from functools import cache

from pipeline.config.sections import IdentitySection

IDENTITY = "identity"  # the probe whose items are these sentences; every other probe is a task of questions


def sentences(identity: IdentitySection) -> list[tuple[str, str]]:
    """Return (term, sentence) for every template with every term: all sentences of a term together, in file order."""
    return [(term, template.replace("{term}", term)) for term in identity.terms for template in identity.templates]


def mentions(text: str, terms: Sequence[str]) -> bool:
    """Return whether `text` holds a term as a whole word or its regular plural (-s, -es), in any case.

    A term of several words may be written with spaces or hyphens. Spelling is all that counts: the color black is a
    mention of the term Black too. What is compared is how often policies mention, so such noise is the same for all.
    """
    return _pattern(tuple(terms)).search(text) is not None


@cache
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    spelled = (r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", term))) for term in terms)
    return re.compile(rf"(?<!\w)(?:{'|'.join(spelled)})(?:e?s)?(?!\w)", re.IGNORECASE)
