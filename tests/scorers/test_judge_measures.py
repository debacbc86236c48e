"""The figures of a judge's card, against published examples, scikit-learn and simulation."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from pipeline.scorers.cards import auc, auc_interval, calibration, rate


@pytest.mark.parametrize(
    ("hits", "windows", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_a_rate_has_the_interval_that_newcombe_1998_table_i_gives(hits, windows, low, high):
    found = rate(np.arange(windows) < hits)
    assert (round(found["low"], 4), round(found["high"], 4)) == (low, high)
    assert found["value"] == pytest.approx(hits / windows) and found["windows"] == windows


def test_auc_is_the_share_of_pairs_in_the_right_order():
    assert auc(np.array([0.9, 0.8]), np.array([0.1, 0.2, 0.3])) == 1
    assert auc(np.array([0.9, 0.2]), np.array([0.1, 0.5])) == 0.75
    assert auc(np.array([1.0, 0.0]), np.array([0.0, 0.0])) == 0.75  # a tie counts half


def test_the_interval_of_an_auc_holds_it_and_shrinks_with_more_texts():
    for value in (0.0, 0.2, 0.5, 0.83, 0.99, 1.0):
        few, many = auc_interval(value, 20, 30), auc_interval(value, 200, 300)
        assert 0 <= few["low"] <= many["low"] <= value <= many["high"] <= few["high"] <= 1
        assert few["high"] - few["low"] > 2 * (many["high"] - many["low"]) > 0


def test_a_perfect_ranking_of_few_texts_proves_little():
    assert auc_interval(1.0, 5, 5)["low"] < 0.8 and auc_interval(1.0, 5, 5)["high"] == 1
    assert auc_interval(0.0, 5, 5)["high"] > 0.2 and auc_interval(0.0, 5, 5)["low"] == 0


def test_exchanging_positives_and_negatives_mirrors_the_interval():
    found, mirrored = auc_interval(0.9, 40, 70), auc_interval(0.1, 70, 40)
    assert mirrored == pytest.approx({"low": 1 - found["high"], "high": 1 - found["low"]}, abs=1e-6)


@pytest.mark.parametrize(("distance", "true"), [(0.5, 0.6382), (1.5, 0.8556), (3.0, 0.9831)])
def test_the_interval_covers_the_auc_of_normal_scores_and_is_not_vastly_too_wide(distance, true):
    rng = np.random.default_rng(0)
    draws = [(rng.normal(distance, 1, size=80), rng.normal(0, 1, size=160)) for _ in range(200)]
    found = np.array([auc(*draw) for draw in draws])  # true: Phi(distance / sqrt 2)
    low, high = np.array([list(auc_interval(value, 80, 160).values()) for value in found]).T
    assert ((low <= true) & (true <= high)).mean() >= 0.93
    spread = np.quantile(found, 0.975) - np.quantile(found, 0.025)
    assert np.median(high - low) < 2 * spread


def test_scores_that_are_true_shares_are_calibrated():
    found = calibration(np.array([0.25, 0.75, 0.75, 0.75]), np.array([0.25, 0.25, 0.25, 0.75]))
    assert found["ece"] == pytest.approx(0) and found["brier"] == pytest.approx(0.1875)


def test_scores_that_say_more_than_they_know_are_not():
    found = calibration(np.ones(10), np.ones(10))
    assert found["ece"] == found["brier"] == 0.5
    assert calibration(np.ones(3), np.zeros(9))["ece"] == calibration(np.ones(3), np.zeros(9))["brier"] == 0


def test_the_bins_are_those_of_scikit_learn_with_their_numbers():
    rng = np.random.default_rng(1)
    positives = np.append(rng.beta(4, 2, size=150), [0.1, 0.3, 1.0])
    negatives = np.append(rng.beta(1, 6, size=250), [0.0, 0.1, 0.6])
    bins = calibration(positives, negatives)["bins"]
    labels = np.repeat([1, 0], [len(positives), len(negatives)])
    shares, means = calibration_curve(labels, np.concatenate([positives, negatives]), n_bins=10)
    filled = [bins[str(place)] for place in range(10) if bins[str(place)]["windows"]]
    np.testing.assert_allclose([row["toxic"] for row in filled], shares)
    np.testing.assert_allclose([row["mean"] for row in filled], means)
    assert sum(row["windows"] for row in bins.values()) == len(labels)
    assert all(row["low"] <= row["mean"] <= row["high"] for row in filled)


def test_a_bin_without_texts_has_no_mean():
    bins = calibration(np.array([0.0, 1.0]), np.array([0.95, 0.05]))["bins"]
    assert [bins[str(place)]["windows"] for place in range(10)] == [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    assert {bins[str(place)][key] for place in range(1, 9) for key in ("mean", "toxic")} == {None}
