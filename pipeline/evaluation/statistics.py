"""Estimates with intervals that respect clustering: pure functions over arrays of prompts, seeds and samples.

Shapes: P prompts, S seeds, K samples a prompt and seed, R resamples. A missing value is NaN and takes no part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_CHUNK_CELLS = 2_000_000  # weights held at once by a weighted median: 8 MB, which stays near the processor's cache


@dataclass(frozen=True)
class Interval:
    """An estimate and the ends of its confidence interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Resampling:
    """How often each resample holds each prompt [R, P] and each seed [R, S].

    Drawn once and used for every policy, judge and metric, so that all comparisons are paired.
    """

    prompts: Array
    seeds: Array


def draw(prompts: int, seeds: int, resamples: int, seed: int) -> Resampling:
    """Draw bootstrap counts: prompts with replacement and, where there are several seeds, seeds as well.

    A prompt brings all its samples, of every seed. Prompts and seeds are crossed, so both are resampled
    independently and their counts multiplied: the pigeonhole bootstrap (Owen 2007; product weights as
    in Owen and Eckles 2012). It is conservative: noise within a prompt and seed is counted up to three times.
    Two or three seeds say little about the spread between seeds, whatever the method. One seed is taken as given:
    its interval does not speak about training again with another seed. One prompt says nothing about the spread
    between prompts: there are no resamples then, and so no interval.
    """
    resamples = resamples if prompts > 1 else 0
    generator = np.random.default_rng(seed)
    counts = [generator.multinomial(n, np.full(n, 1 / n), size=resamples) for n in (prompts, seeds)]
    return Resampling(prompts=counts[0].astype(np.float64), seeds=counts[1].astype(np.float64))


def mean(cells: Array) -> float:
    """Return the mean of the values that are present; NaN when none is."""
    present = cells[~np.isnan(cells)]
    if not present.size:
        return float("nan")
    return float(present[0] + (present - present[0]).mean())  # centered, so that the mean of a constant is exact


def mean_intervals(cells: Mapping[str, Array], resampling: Resampling, confidence: float) -> dict[str, Interval]:
    """Return the mean of every [P, S] array with its percentile bootstrap interval (Efron and Tibshirani 1993, ch. 13).

    All arrays go through one matrix product of counts [R, P] with [P, S x arrays]. A resample that holds no present
    value has no mean and is left out. Raises ValueError when an array does not fit the resampling.
    """
    stacked = np.stack(list(cells.values()), axis=-1)  # [P, S, M]
    _check(stacked.shape[:2], resampling)
    values = [mean(array) for array in cells.values()]
    present = ~np.isnan(stacked)
    # Centered, so that a constant is exactly constant under every weighting.
    centered = np.where(present, stacked - np.array(values), 0.0)
    sums = _weighted_sums(centered, resampling)
    counts = _weighted_sums(present.astype(np.float64), resampling)
    replicates = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return {
        name: percentile_interval(value, value + replicates[:, index], confidence)
        for index, (name, value) in enumerate(zip(cells, values, strict=True))
    }


def _weighted_sums(values: Array, resampling: Resampling) -> Array:
    """Sum [P, S, M] values under each resample's counts; returns [R, M]."""
    prompts, seeds, metrics = values.shape
    by_seed = (resampling.prompts @ values.reshape(prompts, seeds * metrics)).reshape(-1, seeds, metrics)
    return np.asarray(np.einsum("rsm,rs->rm", by_seed, resampling.seeds))


def median_replicates(values: Array, resampling: Resampling) -> Array:
    """Return the median of [P, S, K] values in each resample, [R]; NaN where a resample holds no present value.

    Equal to numpy's median of the resample written out, found from cumulative counts over the sorted values.
    """
    _check(values.shape[:2], resampling)
    prompt_index, seed_index, sample_index = np.nonzero(~np.isnan(values))
    if not prompt_index.size:
        return np.full(len(resampling.prompts), np.nan)
    order = np.argsort(values[prompt_index, seed_index, sample_index], kind="stable")
    prompt_index, seed_index = prompt_index[order], seed_index[order]
    ascending = values[prompt_index, seed_index, sample_index[order]]
    rows = max(1, _CHUNK_CELLS // ascending.size)
    medians = np.empty(len(resampling.prompts))
    for start in range(0, len(medians), rows):
        chunk = slice(start, start + rows)
        counts = resampling.prompts[chunk].astype(np.int32)[:, prompt_index]
        counts *= resampling.seeds[chunk].astype(np.int32)[:, seed_index]
        medians[chunk] = _medians(ascending, np.cumsum(counts, axis=1, out=counts))
    return medians


def _medians(ascending: Array, cumulative: npt.NDArray[np.int32]) -> Array:
    """Return the medians [R] of sorted values [N] that are held `cumulative` [R, N] times up to each place."""
    totals = cumulative[:, -1]
    lower, upper = (
        np.array([np.searchsorted(row, place, side="right") for row, place in zip(cumulative, places, strict=True)])
        for places in ((totals - 1) // 2, totals // 2)
    )
    last = ascending.size - 1
    medians = (ascending[np.minimum(lower, last)] + ascending[np.minimum(upper, last)]) / 2
    return np.where(totals > 0, medians, np.nan)


def percentile_interval(value: float, replicates: Array, confidence: float) -> Interval:
    """Return `value` between the percentiles of its bootstrap replicates; replicates that are NaN are left out."""
    present = replicates[~np.isnan(replicates)]
    if np.isnan(value) or not present.size:
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - confidence) / 2
    low, high = np.quantile(present, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def jackknife_interval(value: float, left_out: Array, confidence: float) -> Interval:
    """Return `value` with the normal interval of its delete-one-cluster jackknife (Efron and Tibshirani 1993, ch. 11).

    `left_out` [P] is the estimate without each cluster. Without at least two clusters there is no interval.
    """
    clusters = left_out.size
    if clusters < 2 or np.isnan(left_out).any():
        return Interval(value, float("nan"), float("nan"))
    variance = (clusters - 1) / clusters * np.sum((left_out - left_out.mean()) ** 2)
    margin = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.sqrt(variance))
    return Interval(value, value - margin, value + margin)


def _check(shape: tuple[int, ...], resampling: Resampling) -> None:
    expected = (resampling.prompts.shape[1], resampling.seeds.shape[1])
    if tuple(shape) != expected:
        raise ValueError(f"expected values of {expected} prompts and seeds, got {tuple(shape)}")
