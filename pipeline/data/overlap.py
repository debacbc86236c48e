"""Find prompts that contain one another, however they are punctuated."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from pipeline.data.schema import normalized

SHORTEST = 5  # words; a shorter prompt stands inside others by chance


class PromptIndex:
    """The words of many prompts, found again by any run of five of them."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._by_run: dict[tuple[str, ...], set[str]] = defaultdict(set)
        for prompt in prompts:
            words = _words(prompt)
            for run in _runs(words):
                self._by_run[run].add(" ".join(words))

    def overlaps(self, prompt: str) -> bool:
        """Return whether `prompt` contains a prompt of the index, or stands in one, as a run of at least 5 words."""
        words = _words(prompt)
        text = " ".join(words)
        candidates = {other for run in _runs(words) for other in self._by_run.get(run, ())}
        return any(f" {other} " in f" {text} " or f" {text} " in f" {other} " for other in candidates)


def _words(prompt: str) -> list[str]:
    return re.findall(r"\w+", normalized(prompt))


def _runs(words: list[str]) -> Iterator[tuple[str, ...]]:
    for start in range(len(words) - SHORTEST + 1):
        yield tuple(words[start : start + SHORTEST])
