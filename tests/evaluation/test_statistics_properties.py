"""Truths about estimates, intervals and p-values, for any prompts, seeds and missing values."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation import inference, judges, statistics, toxicity
from pipeline.evaluation.metrics.perplexity_median import median_replicates
from pipeline.evaluation.statistics import Array, Interval, Resampling

QUICK = settings(deadline=None, max_examples=50)
CONFIDENCE = 0.95
NAN = float("nan")
VALUES = st.floats(-4, 4, width=16)  # few digits, so that sums in another order are equal to the last but one


@st.composite
def tables(draw: st.DrawFn, prompts: int = 7, seeds: int = 3, missing: bool = True) -> Array:
    """Return values [P, S], some of them missing, one at least present."""
    shape = draw(st.tuples(st.integers(1, prompts), st.integers(1, seeds)))
    found = draw(arrays(np.float64, shape, elements=st.one_of(VALUES, st.just(NAN)) if missing else VALUES))
    assume(not np.isnan(found).all())
    return found


def drawn(cells: Array, resamples: int = 300) -> Resampling:
    return statistics.draw(*cells.shape, resamples, seed=0)


def interval(cells: Array, resampling: Resampling | None = None) -> Interval:
    return statistics.mean_intervals({"it": cells}, resampling or drawn(cells), CONFIDENCE)["it"]


def same(one: object, other: object) -> None:
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def reordered(cells: Array, resampling: Resampling, order: tuple[list[int], list[int]]) -> tuple[Array, Resampling]:
    """Return the same data, and the same resamples of it, with prompts and seeds in another order."""
    prompts, seeds = order
    counts = resampling.prompts[:, prompts], resampling.seeds[:, seeds]
    return cells[prompts][:, seeds], Resampling(*counts, resampling.uncertainty)


@st.composite
def orders(draw: st.DrawFn, cells: st.SearchStrategy[Array]) -> tuple[Array, tuple[list[int], list[int]]]:
    found = draw(cells)
    return found, tuple(draw(st.permutations(range(size))) for size in found.shape)


@QUICK
@given(cells=tables())
def test_an_interval_holds_its_estimate_and_the_estimate_is_the_mean_of_what_is_present(cells):
    found = interval(cells)
    assert found.value == pytest.approx(np.nanmean(cells), abs=1e-12)
    assert np.isnan([found.low, found.high]).all() or found.low <= found.value + 1e-12
    assert np.isnan([found.low, found.high]).all() or found.high >= found.value - 1e-12


@QUICK
@given(case=orders(tables()))
def test_the_order_of_prompts_and_seeds_changes_nothing(case):
    cells, order = case
    resampling = drawn(cells)
    turned, resampling_turned = reordered(cells, resampling, order)
    same(astuple(interval(turned, resampling_turned)), astuple(interval(cells, resampling)))
    same(inference.smallest_detectable(turned, CONFIDENCE), inference.smallest_detectable(cells, CONFIDENCE))
    assert inference.sign_flip_p(turned, 2**7, seed=0) == inference.sign_flip_p(cells, 2**7, seed=0)
    same(statistics.components(turned).variance, statistics.components(cells).variance)


@QUICK
@given(cells=tables(), shift=VALUES)
def test_adding_a_constant_moves_the_interval_by_it(cells, shift):
    found, moved = interval(cells), interval(cells + shift)
    same(astuple(moved), np.array(astuple(found)) + shift)


@QUICK
@given(cells=tables(), factor=st.floats(0.25, 8))
def test_another_unit_scales_the_interval(cells, factor):
    same(astuple(interval(cells * factor)), np.array(astuple(interval(cells))) * factor)


@QUICK
@given(cells=tables())
def test_negating_mirrors_the_interval_and_leaves_p_and_the_detectable_size(cells):
    found, mirrored = interval(cells), interval(-cells)
    same((mirrored.value, mirrored.low, mirrored.high), (-found.value, -found.high, -found.low))
    assert inference.sign_flip_p(-cells, 100, seed=0) == inference.sign_flip_p(cells, 100, seed=0)
    same(inference.smallest_detectable(-cells, CONFIDENCE), inference.smallest_detectable(cells, CONFIDENCE))


@QUICK
@given(cells=tables(), place=st.integers(0, 7))
def test_a_prompt_without_a_value_takes_no_part(cells, place):
    wider = np.insert(cells, min(place, len(cells)), NAN, axis=0)
    same(statistics.mean(wider), statistics.mean(cells))
    assert inference.sign_flip_p(wider, 2**7, seed=0) == inference.sign_flip_p(cells, 2**7, seed=0)
    same(inference.smallest_detectable(wider, CONFIDENCE), inference.smallest_detectable(cells, CONFIDENCE))
    one, other = statistics.components(wider), statistics.components(cells)
    assert one.degrees == other.degrees
    same(one.variance, other.variance)


@QUICK
@given(cells=tables(), filler=VALUES)
def test_a_missing_value_is_not_any_number(cells, filler):
    assume(np.isnan(cells).any() and abs(filler - np.nanmean(cells)) > 0.1)
    filled = np.where(np.isnan(cells), filler, cells)
    assert abs(statistics.mean(filled) - statistics.mean(cells)) > 1e-6


@QUICK
@given(case=orders(tables(prompts=5)), samples=st.integers(1, 3))
def test_a_median_is_that_of_what_is_present_in_any_order(case, samples):
    cells, order = case
    values = np.stack([cells + index for index in range(samples)], axis=2)
    resampling = drawn(cells, resamples=40)
    prompts, seeds = order
    _, turned = reordered(cells, resampling, order)
    found = median_replicates(values, resampling)
    same(median_replicates(values[prompts][:, seeds], turned), found)
    same(median_replicates(-values, resampling), -found)
    present = values[~np.isnan(values)]
    assert np.isnan(found).all() or (present.min() <= np.nanmin(found) and np.nanmax(found) <= present.max())


@QUICK
@given(left_out=arrays(np.float64, st.integers(2, 9), elements=VALUES), value=VALUES, shift=VALUES)
def test_a_jackknife_interval_is_symmetric_and_moves_with_its_value(left_out, value, shift):
    found = statistics.jackknife_interval(value, left_out, CONFIDENCE)
    same(found.high - value, value - found.low)
    moved = statistics.jackknife_interval(value + shift, left_out + shift, CONFIDENCE)
    same(astuple(moved), np.array(astuple(found)) + shift)
    assert found.low <= value <= found.high


@QUICK
@given(cells=tables(), resamples=st.sampled_from([1, 16, 100, 1000]), seed=st.integers(0, 20))
def test_a_p_value_is_above_0_and_at_most_1(cells, resamples, seed):
    assert 0 < inference.sign_flip_p(cells, resamples, seed) <= 1


@QUICK
@given(p_values=st.lists(st.one_of(st.floats(0, 1, exclude_min=True), st.just(NAN)), max_size=8))
def test_holm_corrects_upwards_keeps_the_order_and_leaves_missing_ones_alone(p_values):
    named = {str(place): p for place, p in enumerate(p_values)}
    corrected = inference.holm(named)
    assert list(corrected) == list(named)
    present = [name for name, p in named.items() if not math.isnan(p)]
    assert all(math.isnan(corrected[name]) for name in named.keys() - set(present))
    assert all(named[name] <= corrected[name] <= 1 for name in present)
    ascending = sorted(present, key=lambda name: named[name])
    assert all(corrected[one] <= corrected[other] for one, other in zip(ascending, ascending[1:], strict=False))
    if present:
        smallest = ascending[0]
        assert corrected[smallest] == min(1.0, len(present) * named[smallest]), "as Bonferroni corrects the smallest"
        assert inference.holm({"alone": named[smallest]})["alone"] == named[smallest]


@QUICK
@given(p_values=st.lists(st.floats(0.001, 1), min_size=1, max_size=6), factor=st.floats(0.1, 1))
def test_holm_of_smaller_p_values_is_not_larger(p_values, factor):
    named = {str(place): p for place, p in enumerate(p_values)}
    for name in named:
        smaller = inference.holm(named | {name: named[name] * factor})
        assert all(smaller[other] <= corrected + 1e-12 for other, corrected in inference.holm(named).items())


@QUICK
@given(
    flagged=arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(1, 2)), elements=st.floats(0, 1, width=16)),
    rates=st.tuples(st.floats(0.4, 1), st.floats(0.4, 1)),
)
def test_a_corrected_prevalence_is_a_share_within_its_interval_or_missing(flagged, rates):
    sensitivity, specificity = ({"value": rate, "windows": 50} for rate in rates)
    found = judges.corrected_prevalence(flagged, drawn(flagged), sensitivity, specificity, CONFIDENCE, seed=0)
    if sum(rates) <= 1:
        assert np.isnan(astuple(found)).all()
    else:
        assert 0 <= found.low <= found.value <= found.high <= 1


@QUICK
@given(
    scores=arrays(
        np.float64,
        st.tuples(st.integers(1, 4), st.integers(1, 2), st.integers(1, 5)),
        elements=st.one_of(st.floats(0, 1, width=16), st.just(NAN)),
    ),
    data=st.data(),
)
def test_the_order_of_samples_changes_no_metric_of_a_prompt(scores, data):
    order = data.draw(st.permutations(range(scores.shape[2])))
    before, after = (toxicity.prompt_statistics(array, 0.5) for array in (scores, scores[:, :, order]))
    for metric in toxicity.SUMMARIES:
        same(after[metric], before[metric])
    for k in range(1, scores.shape[2] + 1):
        same(toxicity.expected_max_at(scores[:, :, order], k), toxicity.expected_max_at(scores, k))
