"""Truths about estimates and intervals on arrays of prompts, seeds and samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.evaluation import statistics, toxicity

NAN = float("nan")
toxicities = arrays(
    np.float64,
    array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.one_of(st.floats(0, 1, width=32), st.just(NAN)),
)


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
    width = theirs.high - theirs.low
    assert ours.value == sample.mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * width)


def test_more_prompts_narrow_the_interval_and_more_confidence_widens_it():
    cells = np.random.default_rng(0).uniform(size=(400, 1))
    narrow, few, sure = interval(cells), interval(cells[:25]), interval(cells, confidence=0.999)
    assert few.high - few.low > 2.5 * (narrow.high - narrow.low)
    assert sure.low < narrow.low < narrow.high < sure.high


def test_a_prompt_is_one_observation_however_many_seeds_repeat_it():
    prompts = np.random.default_rng(0).uniform(size=(50, 1))
    once, five_times = interval(prompts), interval(np.repeat(prompts, 5, axis=1))
    assert five_times.high - five_times.low == pytest.approx(once.high - once.low, rel=0.05)


def test_seeds_that_differ_widen_the_interval():
    prompts = np.random.default_rng(0).uniform(size=(50, 1))
    same, shifted = np.repeat(prompts, 4, axis=1), prompts + np.array([[-0.3, -0.1, 0.1, 0.3]])
    assert interval(shifted).value == pytest.approx(interval(same).value)
    assert interval(shifted).high - interval(shifted).low > 2 * (interval(same).high - interval(same).low)


def test_one_prompt_has_a_value_and_no_interval():
    result = interval(np.array([[0.3, 0.5]]))
    assert result.value == pytest.approx(0.4)
    assert np.isnan([result.low, result.high]).all()


def test_a_missing_value_takes_no_part():
    cells = np.random.default_rng(0).uniform(size=(30, 1))
    cells[7] = NAN
    assert interval(cells).value == pytest.approx(np.delete(cells, 7, axis=0).mean())
    assert np.isnan(interval(np.full((5, 1), NAN)).value)


def test_a_larger_seed_roster_keeps_the_prompts_that_were_drawn():
    one, three = statistics.draw(10, 1, 50, seed=3), statistics.draw(10, 3, 50, seed=3)
    assert (one.prompts == three.prompts).all()
    assert (three.prompts.sum(axis=1) == 10).all() and (three.seeds.sum(axis=1) == 3).all()


def test_medians_are_those_of_the_resample_written_out():
    generator = np.random.default_rng(5)
    values = generator.integers(0, 20, size=(7, 2, 3)).astype(float)
    values[generator.uniform(size=values.shape) < 0.3] = NAN
    resampling = statistics.draw(7, 2, 200, seed=0)
    for index, median in enumerate(statistics.median_replicates(values, resampling)):
        prompts, seeds = (
            np.repeat(np.arange(counts.shape[1]), counts[index].astype(int))
            for counts in (resampling.prompts, resampling.seeds)
        )
        written_out = values[np.ix_(prompts, seeds)].ravel()
        assert median == np.median(written_out[~np.isnan(written_out)])


def test_medians_of_nothing_are_missing():
    resampling = statistics.draw(3, 1, 10, seed=0)
    assert np.isnan(statistics.median_replicates(np.full((3, 1, 2), NAN), resampling)).all()
    one_present = np.full((3, 1, 2), NAN)
    one_present[0] = 4.0
    medians = statistics.median_replicates(one_present, resampling)
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
    for name, result in statistics.mean_intervals(cells, resampling, 0.9).items():
        if not np.isnan(result.low):
            assert -1e-12 <= result.low <= result.high <= 1 + 1e-12
            assert (paired[name].value, paired[name].low, paired[name].high) == (0, 0, 0)


def population(generator, prompts, seeds=1, samples=8):
    """Draw toxicities [P, S, K] of a reference and of a policy that is less toxic on most prompts, not on all.

    A few prompts are very toxic, most are not; completions of one prompt resemble each other.
    """
    level = generator.beta(1.2, 2.8, size=(prompts, 1, 1))
    effect = generator.normal(-0.05, 0.1, size=(prompts, 1, 1))
    noise = generator.normal(0, 0.2, size=(2, prompts, seeds, samples))
    return [np.clip(drawn, 0, 1) for drawn in (level + noise[0], level + effect + noise[1])]


def cells_of(reference, policy):
    """Return the [P, S] arrays of every metric of the policy and of its difference to the reference."""
    own, other = toxicity.prompt_statistics(policy, 0.5), toxicity.prompt_statistics(reference, 0.5)
    differences = toxicity.paired_differences(own, other)
    return own | {f"difference of {metric}": array for metric, array in differences.items()}


def coverage(seeds, runs=1500, prompts=100, resamples=1000):
    """Return for every metric how often the 95 % interval of a small experiment holds the population's value."""
    generator = np.random.default_rng(0)
    truth = {name: array.mean() for name, array in cells_of(*population(generator, prompts=400_000)).items()}
    hits = dict.fromkeys(truth, 0)
    for run in range(runs):
        cells = cells_of(*population(generator, prompts, seeds))
        intervals = statistics.mean_intervals(cells, statistics.draw(prompts, seeds, resamples, run), 0.95)
        for name, found in intervals.items():
            hits[name] += found.low <= truth[name] <= found.high
    return {name: count / runs for name, count in hits.items()}


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    covered = coverage(seeds=1)
    assert all(0.93 <= share <= 0.97 for share in covered.values()), covered


@pytest.mark.slow
def test_intervals_over_several_seeds_err_on_the_safe_side():
    covered = coverage(seeds=3, runs=600)
    assert all(share >= 0.94 for share in covered.values()), covered
