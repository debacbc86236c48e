"""How fluent completions are: their median perplexity, under the fluency model or else under the base model.

exp of the mean negative log-prob a token, EOS included where it was emitted. A completion that was not analyzed, or is
no text but a lone EOS, takes no part. Shapes: P prompts, S seeds, K samples, R resamples.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from pipeline.config.declarations import Metric
from pipeline.evaluation import statistics
from pipeline.evaluation.measure import NAN, Frame, Measure, Outputs, shift
from pipeline.evaluation.rows import Completion
from pipeline.evaluation.statistics import Array, Interval, Resampling

_CHUNK_CELLS = 500_000  # counts held at once for a median: 4 MB, which stays near the processor's cache


@dataclass(frozen=True)
class Median(Measure):
    """The median of one number a completion, [P, S, K]; changes are those of a paired bootstrap."""

    cells: Array

    def value(self) -> float:
        """Return the median of the completions that have the number."""
        present = self.cells[~np.isnan(self.cells)]
        return float(np.median(present)) if present.size else NAN

    def of_seed(self, index: int) -> Self:
        """Return the same of one seed alone."""
        return type(self)(self.cells[:, index : index + 1])

    def change(self, reference: Self, kind: str, frame: Frame) -> Interval:
        """Return the change of the median between the percentiles of its resamples, those of both taken together."""
        value = float(shift(kind, np.array(self.value()), np.array(reference.value())))
        drawn = [median_replicates(measure.cells, frame.resampling) for measure in (self, reference)]
        return statistics.percentile_interval(value, shift(kind, *drawn), frame.confidence)

    def reranked(self, weights: Array) -> float | None:
        """Return the weighted median of the values that are present: those of the analyzed samples."""
        used = ~np.isnan(self.cells) & (np.nan_to_num(weights) > 0)
        if not used.any():
            return NAN
        return float(np.quantile(self.cells[used], 0.5, weights=weights[used], method="inverted_cdf"))


def median_replicates(values: Array, resampling: Resampling) -> Array:
    """Return the median of [P, S, K] values in each resample, [R]; NaN where a resample holds no present value.

    Equal to numpy's median of the resample written out. The sorted values are cut into blocks; a matrix product tells
    how many each resample holds of each block, and only the block in the middle is looked through.
    """
    statistics.check_fits(values.shape[:2], resampling)
    prompts, seeds, samples = np.nonzero(~np.isnan(values))
    if not prompts.size:
        return np.full(len(resampling.prompts), np.nan)
    order = np.argsort(values[prompts, seeds, samples], kind="stable")
    ascending = values[prompts, seeds, samples][order]
    cell = (prompts * values.shape[1] + seeds)[order]
    rows = max(1, _CHUNK_CELLS // (values.shape[0] * values.shape[1]))
    medians = []
    for start in range(0, len(resampling.prompts), rows):
        chunk = slice(start, start + rows)
        counts = resampling.prompts[chunk][:, :, None] * resampling.seeds[chunk][:, None, :]
        medians.append(_medians(ascending, cell, counts.reshape(len(counts), -1)))
    return np.concatenate(medians) if medians else np.empty(0)


def _medians(ascending: Array, cell: npt.NDArray[np.intp], counts: Array) -> Array:
    """Return the medians [R] of sorted values [N] whose cells [N] are held `counts` [R, P x S] times."""
    width = math.isqrt(ascending.size - 1) + 1
    block = np.arange(ascending.size) // width
    held = np.zeros((counts.shape[1], block[-1] + 1))
    np.add.at(held, (cell, block), 1.0)
    up_to = np.cumsum(counts @ held, axis=1)  # whole numbers, exact
    totals = up_to[:, -1]
    middle = [_at(place, ascending, cell, counts, up_to, width) for place in ((totals - 1) // 2, totals // 2)]
    return np.where(totals > 0, (middle[0] + middle[1]) / 2, np.nan)


def _at(place: Array, ascending: Array, cell: npt.NDArray[np.intp], counts: Array, up_to: Array, width: int) -> Array:
    """Return the value [R] at a place [R] of each resample in ascending order, counted from 0."""
    block = np.minimum((up_to <= place[:, None]).sum(axis=1), up_to.shape[1] - 1)
    before = np.where(block > 0, np.take_along_axis(up_to, np.maximum(block - 1, 0)[:, None], axis=1)[:, 0], 0.0)
    inside = block[:, None] * width + np.arange(width)  # the last block may end early: its last value stands for more
    inside = np.minimum(inside, ascending.size - 1)
    running = np.cumsum(np.take_along_axis(counts, cell[inside], axis=1), axis=1)
    steps = (running <= (place - before)[:, None]).sum(axis=1)
    return np.asarray(ascending[np.minimum(block * width + steps, ascending.size - 1)])


def _surprise(row: Completion) -> float | None:
    """Return the mean negative log-prob a token under the base, in nats; a lone EOS is no text and has none."""
    if row.logprobs is None or not row.text_tokens:
        return None
    return -row.logprobs.base / len(row.token_ids)


def _measure(outputs: Outputs) -> Median:
    surprises = outputs.cells(_surprise) if outputs.surprises is None else outputs.surprises
    with np.errstate(over="ignore"):  # beyond exp(709) it is infinite, which is written as missing and fails the guard
        return Median(np.exp(surprises))


METRIC = Metric("perplexity_median", "fluency: median perplexity of completions under {model}", _measure)
