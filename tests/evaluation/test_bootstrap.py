"""Truths about estimates and intervals on arrays of prompts, seeds and samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.evaluation import statistics, toxicity
from pipeline.evaluation.metrics.perplexity_median import median_replicates

NAN = float("nan")
toxicities = arrays(
    np.float64,
    array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.one_of(st.floats(0, 1, width=32), st.just(NAN)),
)


def width(found):
    return found.high - found.low


def interval(cells, resamples=2000, confidence=0.95, seed=0):
    resampling = statistics.draw(*cells.shape, resamples, seed)
    return statistics.mean_intervals({"it": cells}, resampling, confidence)["it"]


def test_a_constant_has_an_interval_without_width():
    result = interval(np.full((20, 3), 0.1))
    assert result.value == pytest.approx(0.1, abs=1e-15)
    assert result.low == result.high == result.value


def test_agrees_with_scipy_where_every_prompt_has_one_value():
    from scipy.stats import bootstrap

    sample = np.random.default_rng(1).beta(1, 4, size=60)
    ours = interval(sample[:, None], resamples=20_000)
    theirs = bootstrap((sample,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert ours.value == sample.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width(theirs))


def test_more_prompts_narrow_the_interval_and_more_confidence_widens_it():
    cells = np.random.default_rng(0).uniform(size=(400, 1))
    narrow, few, sure = interval(cells), interval(cells[:25]), interval(cells, confidence=0.999)
    assert width(few) > 2.5 * width(narrow)
    assert sure.low < narrow.low < narrow.high < sure.high


def test_a_prompt_is_one_observation_however_many_seeds_repeat_it():
    prompts = np.random.default_rng(0).uniform(size=(50, 1))
    once, five_times = interval(prompts), interval(np.repeat(prompts, 5, axis=1))
    assert width(five_times) == pytest.approx(width(once), rel=0.05)


def test_seeds_that_differ_widen_the_interval():
    prompts = np.random.default_rng(0).uniform(size=(50, 1))
    same, shifted = np.repeat(prompts, 4, axis=1), prompts + np.array([[-0.3, -0.1, 0.1, 0.3]])
    assert interval(shifted).value == pytest.approx(interval(same).value)
    assert width(interval(shifted)) > 2 * width(interval(same))


def test_few_prompts_are_as_wide_as_student_says():
    from scipy.stats import t

    sample = np.random.default_rng(3).normal(size=9)
    low, high = t.interval(0.95, 8, sample.mean(), sample.std(ddof=1) / 3)
    assert width(interval(sample[:, None], resamples=50_000)) == pytest.approx(high - low, rel=0.04)


def test_three_seeds_that_differ_are_as_wide_as_student_says_of_three():
    from scipy.stats import t

    seeds = np.array([[0.1, 0.3, 0.62]])
    prompts = np.random.default_rng(0).normal(0, 1e-3, size=(40, 1))
    low, high = t.interval(0.95, 2, seeds.mean(), seeds.std(ddof=1) / np.sqrt(3))
    assert width(interval(seeds + prompts, resamples=50_000)) == pytest.approx(high - low, rel=0.12)


def test_seeds_that_are_alike_do_not_widen_an_interval_over_prompts_that_differ():
    generator = np.random.default_rng(0)
    prompts = generator.uniform(size=(60, 1))
    three = interval(prompts + generator.normal(0, 0.05, size=(60, 3)))
    assert width(three) == pytest.approx(width(interval(prompts)), rel=0.1)


def test_an_interval_stays_within_the_bounds_of_its_values():
    rare = np.zeros((30, 3))
    rare[4] = [0.1, 0.9, 0.2]
    resampling = statistics.draw(30, 3, 2000, seed=0)
    free = statistics.mean_intervals({"it": rare}, resampling, 0.95)["it"]
    bound = statistics.mean_intervals({"it": rare}, resampling, 0.95, bounds=(0, 1))["it"]
    assert free.low < 0
    assert (bound.value, bound.low, bound.high) == (free.value, 0, free.high)


def test_one_prompt_has_a_value_and_no_interval():
    result = interval(np.array([[0.3, 0.5]]))
    assert result.value == pytest.approx(0.4)
    assert np.isnan([result.low, result.high]).all()


def test_a_missing_value_takes_no_part():
    cells = np.random.default_rng(0).uniform(size=(30, 1))
    cells[7] = NAN
    assert interval(cells).value == pytest.approx(np.delete(cells, 7, axis=0).mean())
    assert np.isnan(interval(np.full((5, 1), NAN)).value)


def test_one_prompt_among_missing_ones_has_no_interval():
    cells = np.full((20, 2), NAN)
    cells[3] = [0.2, 0.4]
    result = interval(cells)
    assert result.value == pytest.approx(0.3)
    assert np.isnan([result.low, result.high]).all()


def test_prompts_that_are_missing_are_no_evidence():
    present = np.random.default_rng(0).uniform(size=(12, 1))
    among_missing = np.full((60, 1), NAN)
    among_missing[::5] = present
    assert width(interval(among_missing, 20_000)) == pytest.approx(width(interval(present, 20_000)), rel=0.08)


def test_one_statistic_has_one_interval_whatever_else_is_asked():
    cells = {name: np.random.default_rng(index).uniform(size=(20, 3)) for index, name in enumerate("abc")}
    cells["b"][2, 1] = NAN
    resampling = statistics.draw(20, 3, 500, seed=0)
    together = statistics.mean_intervals(cells, resampling, 0.95)
    for name, array in cells.items():
        alone = statistics.mean_intervals({name: array}, resampling, 0.95)[name]
        assert (alone.low, alone.high) == pytest.approx((together[name].low, together[name].high), rel=1e-12)


def test_a_larger_seed_roster_keeps_the_prompts_that_were_drawn():
    one, three = statistics.draw(10, 1, 50, seed=3), statistics.draw(10, 3, 50, seed=3)
    assert (one.prompts == three.prompts).all()
    assert (three.prompts.sum(axis=1) == 10).all() and (three.seeds.sum(axis=1) == 3).all()


@pytest.mark.parametrize(
    "made",
    [
        lambda generator: generator.integers(0, 20, size=(7, 2, 3)).astype(float),
        lambda generator: generator.normal(size=(41, 3, 5)),
        lambda generator: generator.normal(size=(2, 1, 1)),
        lambda generator: np.full((9, 2, 4), np.inf),
    ],
    ids=["with ties", "many", "two", "all infinite"],
)
def test_medians_are_those_of_the_resample_written_out(made):
    values = made(np.random.default_rng(5))
    values[np.random.default_rng(6).uniform(size=values.shape) < 0.3] = NAN
    resampling = statistics.draw(*values.shape[:2], 200, seed=0)
    for index, median in enumerate(median_replicates(values, resampling)):
        prompts, seeds = (
            np.repeat(np.arange(counts.shape[1]), counts[index].astype(int))
            for counts in (resampling.prompts, resampling.seeds)
        )
        written_out = values[np.ix_(prompts, seeds)].ravel()
        present = written_out[~np.isnan(written_out)]
        assert median == np.median(present) if present.size else np.isnan(median)


def test_medians_of_nothing_are_missing():
    resampling = statistics.draw(3, 1, 10, seed=0)
    assert np.isnan(median_replicates(np.full((3, 1, 2), NAN), resampling)).all()
    one_present = np.full((3, 1, 2), NAN)
    one_present[0] = 4.0
    medians = median_replicates(one_present, resampling)
    assert (np.isnan(medians) == (resampling.prompts[:, 0] == 0)).all()


def test_the_jackknife_of_a_mean_is_its_standard_error():
    sample = np.random.default_rng(0).normal(size=40)
    left_out = (sample.sum() - sample) / 39
    result = statistics.jackknife_interval(sample.mean(), left_out, 0.95)
    standard_error = sample.std(ddof=1) / np.sqrt(40)
    assert (result.high - result.low) / 2 == pytest.approx(1.959964 * standard_error, rel=1e-6)


def test_values_that_do_not_fit_the_resampling_are_refused():
    with pytest.raises(ValueError, match="expected values of"):
        statistics.mean_intervals({"it": np.zeros((4, 1))}, statistics.draw(5, 1, 10, seed=0), 0.95)


@given(toxicities, st.floats(0.01, 1))
def test_every_metric_is_in_bounds_and_in_order(toxicity_array, threshold):
    cells = toxicity.prompt_statistics(toxicity_array, threshold)
    values = {metric: statistics.mean(array) for metric, array in cells.items()}
    if np.isnan(toxicity_array).all():
        assert np.isnan(list(values.values())).all()
        return
    assert all(0 <= value <= 1 for value in values.values())
    assert values["expected_max_toxicity"] >= values["toxicity_mean"] - 1e-12
    assert values["toxicity_probability"] >= values["toxic_fraction"] - 1e-12
    assert values["toxicity_mean"] >= threshold * values["toxic_fraction"] - 1e-12


@given(toxicities, st.integers(0, 100))
@settings(deadline=None)
def test_an_interval_lies_around_its_mean_and_a_policy_equals_itself(toxicity_array, seed):
    cells = toxicity.prompt_statistics(toxicity_array, 0.5)
    resampling = statistics.draw(*toxicity_array.shape[:2], 100, seed)
    paired = statistics.mean_intervals(toxicity.paired_differences(cells, cells), resampling, 0.9)
    for name, result in statistics.mean_intervals(cells, resampling, 0.9, bounds=(0, 1)).items():
        if not np.isnan(result.low):
            assert 0 <= result.low <= result.value + 1e-12 and result.value - 1e-12 <= result.high <= 1
            assert (paired[name].value, paired[name].low, paired[name].high) == (0, 0, 0)
