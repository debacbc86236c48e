"""Labelled text for the judge: without the prompts of the data set, cut into windows like completions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.overlap import PromptIndex
from pipeline.data.raw_texts import units
from pipeline.data.schema import normalized


@dataclass(frozen=True)
class Window:
    """Some consecutive words of the text at `text_index`, by which a text stays out of either the fit or the test."""

    words: str
    text_index: int


def without_prompts(texts: Sequence[str], prompts: Sequence[str]) -> list[str]:
    """Return the texts that neither contain nor stand in any prompt, whatever case, spacing and punctuation."""
    known, index = {normalized(prompt) for prompt in prompts}, PromptIndex(prompts)
    return [text for text in texts if not _touches(normalized(text), known) and not index.overlaps(text)]


def cut_windows(
    texts: Sequence[str],
    unit: str,
    window_words: Sequence[int],
    per_unit: int,
    limit: int | None,
    rng: np.random.Generator,
) -> list[Window]:
    """Cut `per_unit` random windows from each unit of the texts, in random order, and at most `limit` in all.

    The length of a window is uniform over `window_words` (shortest, longest); a unit shorter than that is taken whole.
    """
    found = [(index, part.split()) for index, text in enumerate(texts) for part in units(text, unit)]
    shortest, longest = window_words
    cut = []
    for index, words in (found[position] for position in rng.permutation(len(found))):
        for _ in range(per_unit):
            length = int(rng.integers(shortest, longest + 1))
            start = int(rng.integers(0, max(0, len(words) - length) + 1))
            cut.append(Window(" ".join(words[start : start + length]), index))
        if limit is not None and len(cut) >= limit:
            break
    return cut[:limit]


def _touches(text: str, prompts: set[str]) -> bool:
    return any(prompt in text or text in prompt for prompt in prompts)
