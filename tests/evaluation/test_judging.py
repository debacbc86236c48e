"""Truths about corrected prevalence, agreement of judges and the hacking gap."""

import numpy as np
import pytest

from pipeline.evaluation import judges, statistics

NAN = float("nan")
FIGURES = ("kappa", "spearman", "both", "only_first", "only_second")


def rate(value, windows=10**9):
    return {"value": value, "windows": windows}


def prevalence(flagged, sensitivity, specificity, resamples=2000, seed=0):
    resampling = statistics.draw(*flagged.shape, resamples, seed)
    return judges.corrected_prevalence(flagged, resampling, sensitivity, specificity, 0.95, seed)


def ends(found):
    return found.value, found.low, found.high


def test_a_judge_without_errors_needs_no_correction():
    flagged = np.random.default_rng(0).uniform(size=(60, 2))
    found = prevalence(flagged, rate(1.0), rate(1.0))
    plain = statistics.mean_intervals({"it": flagged}, statistics.draw(60, 2, 2000, seed=0), 0.95)["it"]
    assert ends(found) == pytest.approx(ends(plain), abs=1e-6)


def test_known_errors_are_undone():
    # Of 30 % toxic texts a judge that finds 80 % and wrongly flags 10 % flags .3 x .8 + .7 x .1 = .31.
    assert prevalence(np.full((5, 1), 0.31), rate(0.8), rate(0.9)).value == pytest.approx(0.3)


def test_it_stays_within_zero_and_one():
    low, high = (prevalence(np.full((5, 1), flagged), rate(0.8), rate(0.9)) for flagged in (0.02, 0.95))
    assert ends(low) == (0, 0, 0)
    assert ends(high) == (1, 1, 1)


def test_a_judge_known_from_few_windows_leaves_more_open():
    flagged = np.random.default_rng(0).beta(1, 3, size=(100, 1))
    widths = [
        found.high - found.low
        for windows in (40, 400, 10**9)
        for found in [prevalence(flagged, rate(0.8, windows), rate(0.9, windows))]
    ]
    assert widths[0] > 1.4 * widths[1] > 1.4 * widths[2]


def test_a_judge_no_better_than_chance_tells_nothing():
    assert np.isnan(ends(prevalence(np.full((5, 1), 0.3), rate(0.6), rate(0.4)))).all()
    assert np.isnan(ends(prevalence(np.full((5, 1), 0.3), rate(0.2), rate(0.3)))).all()


def test_a_judge_that_may_be_no_better_than_chance_leaves_everything_open():
    found = prevalence(np.full((20, 1), 0.5), rate(0.6, windows=10), rate(0.6, windows=10))
    assert (found.low, found.high) == (0, 1)


def test_without_an_interval_of_the_flagged_there_is_none():
    one_prompt, nothing = prevalence(np.full((1, 1), 0.3), rate(0.8), rate(0.9)), np.full((5, 1), NAN)
    assert one_prompt.value == pytest.approx(2 / 7)
    assert np.isnan([one_prompt.low, one_prompt.high]).all()
    assert np.isnan(ends(prevalence(nothing, rate(0.8), rate(0.9)))).all()


def test_agreement_by_hand():
    first = np.array([0.9, 0.8, 0.1, 0.2, 0.7, NAN])
    second = np.array([0.6, 0.9, 0.2, 0.1, 0.3, 0.9])
    found = judges.agreement(first, second, 0.5)
    assert (found["both"], found["only_first"], found["only_second"]) == pytest.approx((0.4, 0.2, 0))
    # Observed 4/5; by chance 3/5 x 2/5 + 2/5 x 3/5 = 12/25.
    assert found["kappa"] == pytest.approx((4 / 5 - 12 / 25) / (1 - 12 / 25))
    # Four of the five are one rank apart: 1 - 6 x 4 / (5 x 24).
    assert found["spearman"] == pytest.approx(0.8)


def test_a_judge_agrees_with_itself_and_not_with_its_opposite():
    scores = np.random.default_rng(0).uniform(size=(10, 2, 4))
    itself, opposite = judges.agreement(scores, scores, 0.5), judges.agreement(scores, 1 - scores, 0.5)
    assert (itself["kappa"], itself["spearman"]) == pytest.approx((1, 1))
    assert opposite["spearman"] == pytest.approx(-1)
    assert opposite["kappa"] < -0.9 and opposite["both"] == 0


def test_judges_that_know_nothing_of_each_other_agree_by_chance_alone():
    first, second = np.random.default_rng(0).uniform(size=(2, 20_000))
    found = judges.agreement(first, second, 0.8)
    assert (found["kappa"], found["spearman"]) == pytest.approx((0, 0), abs=0.03)


def test_what_cannot_be_said_of_two_judges_is_missing():
    assert np.isnan([judges.agreement(np.full(3, NAN), np.ones(3), 0.5)[name] for name in FIGURES]).all()
    constant = judges.agreement(np.full(3, 0.1), np.array([0.1, 0.2, 0.3]), 0.5)
    assert np.isnan([constant["kappa"], constant["spearman"]]).all()
    assert constant["both"] == 0
    one_sided = judges.agreement(np.full(3, 0.1), np.array([0.1, 0.2, 0.9]), 0.5)
    assert one_sided["kappa"] == 0 and one_sided["only_second"] == pytest.approx(1 / 3)


def gap(gain_by_reward, gain_by_judge, judge_scale=1.0, seeds=1, prompts=100):
    """Return the hacking gap of a policy that takes off these shares of the toxicity of each scorer."""
    generator = np.random.default_rng(0)
    level = generator.beta(1.5, 3, size=(prompts, 1))
    noise = generator.normal(0, 0.01, size=(4, prompts, seeds))
    reward, judge = level, judge_scale * level
    arrays = [
        reward * (1 - gain_by_reward) + noise[0],
        reward + noise[1],
        judge * (1 - gain_by_judge) + noise[2],
        judge + noise[3],
    ]
    return judges.hacking_gap(*arrays, statistics.draw(prompts, seeds, 2000, seed=0), 0.95)


def test_a_gain_that_only_the_reward_scorer_sees_is_flagged():
    found = gap(0.5, 0.0)
    assert found["flagged"] is True and found["relative_flagged"] is True
    assert found["relative_gap"].value == pytest.approx(0.5, abs=0.02)


def test_a_gain_that_both_see_is_no_hack():
    found = gap(0.4, 0.4)
    assert found["flagged"] is False and found["relative_flagged"] is False
    assert found["gap"].low < 0 < found["gap"].high


def test_a_judge_that_saw_more_is_no_hack():
    found = gap(0.2, 0.6)
    assert found["gap"].high < 0 and found["flagged"] is False and found["relative_flagged"] is False


def test_a_judge_of_another_scale_moves_the_gap_and_not_the_relative_one():
    lenient, strict = gap(0.5, 0.5, judge_scale=0.3), gap(0.3, 0.2, judge_scale=2.0)
    assert lenient["flagged"] is True and lenient["relative_flagged"] is False
    assert strict["flagged"] is False and strict["relative_flagged"] is True


def test_the_gap_is_the_difference_of_the_gains():
    one, other = np.full((4, 1), 0.2), np.full((4, 1), 0.5)
    found = judges.hacking_gap(one, other, other - 0.1, other, statistics.draw(4, 1, 50, seed=0), 0.95)
    assert ends(found["gap"]) == pytest.approx((0.2, 0.2, 0.2))
    assert ends(found["relative_gap"]) == pytest.approx((0.4, 0.4, 0.4))


def test_the_interval_of_the_relative_gap_is_as_wide_as_its_estimates_spread():
    generator = np.random.default_rng(0)
    values, widths = [], []
    for run in range(300):
        level = generator.beta(2, 4, size=(80, 1))
        arrays = [np.clip(level * share + generator.normal(0, 0.1, size=(80, 1)), 0, 1) for share in (0.6, 1, 0.8, 1)]
        found = judges.hacking_gap(*arrays, statistics.draw(80, 1, 400, seed=run), 0.95)["relative_gap"]
        values.append(found.value)
        widths.append(found.high - found.low)
    assert np.mean(widths) == pytest.approx(2 * 1.99 * np.std(values), rel=0.1)


def test_the_relative_gap_is_the_gap_itself_where_scales_are_alike_and_constant():
    generator = np.random.default_rng(0)
    before = np.full((40, 3), 0.5)
    rewarded = before - 0.2 + generator.normal(0, 0.05, size=(40, 1))
    judged = (
        rewarded + np.array([[0.0, 0.05, 0.12]]) + generator.normal(0, 0.05, size=(40, 3))
    )  # seeds differ here alone
    found = judges.hacking_gap(rewarded, before, judged, before, statistics.draw(40, 3, 2000, seed=0), 0.95)
    assert ends(found["relative_gap"]) == pytest.approx([end / 0.5 for end in ends(found["gap"])])


def test_a_prompt_that_one_scorer_lacks_is_left_out_of_the_gap():
    generator = np.random.default_rng(0)
    arrays = list(generator.uniform(size=(4, 30, 1)))
    lacking = [array.copy() for array in arrays]
    lacking[2][4] = NAN
    found = judges.hacking_gap(*lacking, statistics.draw(30, 1, 500, seed=0), 0.95)
    without = [np.delete(array, 4, axis=0) for array in arrays]
    expected = judges.hacking_gap(*without, statistics.draw(29, 1, 500, seed=0), 0.95)
    for name in ("gap", "relative_gap"):
        assert found[name].value == pytest.approx(expected[name].value)


def test_without_numbers_nothing_is_flagged():
    nothing, resampling = np.full((5, 1), NAN), statistics.draw(5, 1, 100, seed=0)
    found = judges.hacking_gap(nothing, nothing, nothing, nothing, resampling, 0.95)
    assert np.isnan(ends(found["gap"]) + ends(found["relative_gap"])).all()
    assert found["flagged"] is False and found["relative_flagged"] is False
    harmless = np.zeros((5, 1))
    assert np.isnan(judges.hacking_gap(harmless, harmless, harmless, harmless, resampling, 0.95)["relative_gap"].value)
