"""Fit the head of the judge on frozen embeddings of labelled windows.

Positives are texts that a classifier of its own found toxic, less everything that touches a prompt of the data set;
negatives are harmless texts of several sources in equal parts. One source of negatives stays out of the fit: the rate
at which the head flags it shows whether it learned toxicity or where a text comes from. A text is in the fit or in the
test, never in both.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config.sections import JudgeFit, RawText
from pipeline.data.raw_texts import read_texts, units
from pipeline.data.schema import normalized
from pipeline.data.splits import PromptIndex
from pipeline.io.errors import UserError
from pipeline.scorers.embedding_head import Head


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


POSITIVES = "positives"
MAX_ITERATIONS = 1000
Encode = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True)
class Sample:
    """The windows [N] of one source, their embeddings [N, D], which are in the test [N], and of how many texts they
    are, how many others being excluded."""

    windows: list[str]
    embeddings: NDArray[np.float32]
    in_test: NDArray[np.bool_]
    texts: int
    excluded: int

    @property
    def fitted(self) -> NDArray[np.float32]:
        """Return the embeddings that a fit may see."""
        return self.embeddings[~self.in_test]


def draw_samples(fit: JudgeFit, raw: Path, prompts: Sequence[str], encode: Encode) -> dict[str, Sample]:
    """Read, cut and embed the positives and each source of negatives, by name; raise UserError on malformed files.

    The draw from a source depends on the seed and its name alone: adding a source changes no other's windows.
    """
    sources = {POSITIVES: fit.positives, **dict(sorted(fit.negatives.items()))}
    cut: dict[str, tuple[list[Window], NDArray[np.bool_], int, int]] = {}
    for name, source in sources.items():
        read = read_texts(raw, source, _key(name))
        kept = without_prompts(read, prompts)
        cut[name] = (*_draw(name, source, kept, fit), len(kept), len(read) - len(kept))
    embeddings = encode([window.words for windows, *_ in cut.values() for window in windows])
    if not np.isfinite(embeddings).all():
        raise UserError("judge.scorer: the encoder makes embeddings that are not finite; choose another encoder")
    parts = np.split(embeddings, np.cumsum([len(windows) for windows, *_ in cut.values()])[:-1])
    return {
        name: Sample([window.words for window in windows], part, in_test, texts, excluded)
        for (name, (windows, in_test, texts, excluded)), part in zip(cut.items(), parts, strict=True)
    }


def fit_heads(samples: dict[str, Sample], fit: JudgeFit) -> dict[str, Head]:
    """Fit one head for each source of negatives, without that source; the judge's own is that of `held_out_source`."""
    return {name: _fit_without(name, samples, fit.regularization) for name in samples if name != POSITIVES}


def _key(name: str) -> str:
    return "judge.fit.positives" if name == POSITIVES else f"judge.fit.negatives.{name}"


def _draw(name: str, source: RawText, texts: list[str], fit: JudgeFit) -> tuple[list[Window], NDArray[np.bool_]]:
    rng = np.random.default_rng([fit.seed, int(hashlib.sha256(name.encode("utf-8")).hexdigest()[:8], 16)])
    test_texts = set(rng.permutation(len(texts))[: round(len(texts) * fit.test_fraction)].tolist())
    per_unit, limit = (fit.windows_per_positive, None) if name == POSITIVES else (1, fit.windows_per_negative_source)
    windows = cut_windows(texts, source.unit, fit.window_words, per_unit, limit, rng)
    in_test = np.array([window.text_index in test_texts for window in windows], dtype=np.bool_)
    if in_test.all() or not in_test.any():
        raise UserError(
            f"judge.fit: {name}: {len(texts)} texts are too few to fit and to test on (test_fraction "
            f"{fit.test_fraction}); add texts or change the fraction"
        )
    return windows, in_test


def _fit_without(left_out: str, samples: dict[str, Sample], regularization: float) -> Head:
    """Fit by L2-penalized maximum likelihood; classes keep the weight of their numbers, so that 0.5 stays cautious."""
    from sklearn.linear_model import LogisticRegression

    positives = samples[POSITIVES].fitted
    negatives = np.concatenate([sample.fitted for name, sample in samples.items() if name not in (POSITIVES, left_out)])
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    model = LogisticRegression(C=regularization, max_iter=MAX_ITERATIONS)
    model.fit(np.concatenate([positives, negatives]).astype(np.float64), labels)
    if model.n_iter_[0] >= MAX_ITERATIONS:
        raise UserError(f"judge.fit: no convergence in {MAX_ITERATIONS} iterations; lower judge.fit.regularization")
    return Head(weight=model.coef_[0].astype(np.float32), bias=model.intercept_.astype(np.float32))
