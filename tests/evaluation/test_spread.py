"""Truths about how uncertain a mean over crossed prompts and seeds is."""

import numpy as np
import pytest

from pipeline.evaluation import statistics
from pipeline.evaluation.statistics import Uncertainty, components

NAN = float("nan")


def experiments(count, prompts=15, seeds=3, of_prompts=0.3, of_seeds=0.2, of_noise=0.5):
    """Draw `count` tables [P, S] with mean 0 and normal effects of these standard deviations."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield (
            of_prompts * generator.normal(size=(prompts, 1))
            + of_seeds * generator.normal(size=(1, seeds))
            + of_noise * generator.normal(size=(prompts, seeds))
        )


@pytest.mark.parametrize("of_seeds", [0.0, 0.2, 1.0])
def test_the_variance_of_the_mean_is_right_on_average(of_seeds):
    tables = list(experiments(4000, of_seeds=of_seeds))
    found = [components(table) for table in tables]
    estimated = np.mean([one.prompts + one.seeds - one.noise for one in found])
    assert estimated == pytest.approx(np.var([table.mean() for table in tables]), rel=0.08)


def test_with_one_seed_it_is_the_variance_of_a_mean_of_prompts():
    sample = np.random.default_rng(0).normal(size=(30, 1))
    found = components(sample)
    assert found.variance == pytest.approx(sample.var(ddof=1) / 30)
    assert found.degrees == (29, 0, 0)


def test_the_bootstrap_part_is_the_variance_of_its_replicates():
    for seeds in (1, 3):
        table = next(experiments(1, seeds=seeds))
        replicates = statistics.mean_replicates({"it": table}, statistics.draw(15, seeds, 40_000, seed=0))["it"]
        assert components(table).bootstrap == pytest.approx(replicates.var(), rel=0.05)


def test_prompts_and_seeds_without_any_value_are_no_clusters():
    table = next(experiments(1, prompts=8, seeds=3))
    padded = np.full((11, 4), NAN)
    padded[1:9, :3] = table
    assert components(padded).degrees == components(table).degrees == (7, 2, 14)
    assert components(padded).variance == pytest.approx(components(table).variance)


def test_a_missing_cell_changes_little():
    table = next(experiments(1, prompts=60))
    lacking = table.copy()
    lacking[7, 1] = NAN
    assert components(lacking).variance == pytest.approx(components(table).variance, rel=0.1)
    assert components(lacking).degrees == (59, 2, 117)


@pytest.mark.parametrize("table", [np.full((5, 3), 0.1), np.full((1, 1), 0.3), np.full((4, 2), NAN)])
def test_what_does_not_vary_has_no_variance(table):
    found = components(table)
    assert (found.prompts, found.seeds, found.noise, found.bootstrap, found.variance) == (0, 0, 0, 0, 0)


def test_drawn_variances_make_students_t_of_a_normal():
    from scipy.stats import kstest

    generator = np.random.default_rng(0)
    found = components(generator.normal(size=(6, 1)))
    deviations = generator.normal(size=20_000) * np.sqrt(Uncertainty(20_000, generator).variances(found))
    assert kstest(deviations / np.sqrt(found.variance), "t", args=(5,)).pvalue > 0.01


def test_many_prompts_and_seeds_leave_little_doubt_about_the_variance():
    table = next(experiments(1, prompts=400, seeds=300, of_prompts=0, of_seeds=0, of_noise=1))
    drawn = Uncertainty(5000, np.random.default_rng(0)).variances(components(table))
    assert np.median(drawn) == pytest.approx(1 / (400 * 300), rel=0.1)
    assert drawn.std() < 0.2 * np.median(drawn)


def test_the_same_draws_serve_every_estimate():
    uncertainty = Uncertainty(100, np.random.default_rng(0))
    table = next(experiments(1))
    first, twice = uncertainty.variances(components(table)), uncertainty.variances(components(2 * table))
    assert twice == pytest.approx(4 * first)
