"""The price of KL: kept, or steered towards the target within its bounds."""

import pytest

from pipeline.methods.ppo.objectives import KLController


def after(kl, target=4.0, completions=50, horizon=1000):
    controller = KLController(0.1, target, horizon)
    controller.update(kl, completions)
    return controller.coef


@pytest.mark.parametrize("kl", [0.0, 4.0, 1e9])
def test_without_a_target_the_price_stays(kl):
    assert after(kl, target=None) == 0.1


def test_the_price_rises_above_the_target_and_falls_below_it():
    assert after(4.4) > 0.1 > after(3.6)
    assert after(4.0) == 0.1
    assert after(4.4) - 0.1 == pytest.approx(0.1 - after(3.6))


def test_one_rollout_moves_it_by_at_most_a_fifth_of_its_share_of_the_horizon():
    assert after(1e9) == pytest.approx(0.1 * (1 + 0.2 * 50 / 1000))
    assert after(-1e9) == pytest.approx(0.1 * (1 - 0.2 * 50 / 1000))
    assert after(1e9) == after(4.8)


def test_more_completions_or_a_shorter_horizon_move_it_more():
    assert after(4.4, completions=100) - 0.1 == pytest.approx(2 * (after(4.4) - 0.1))
    assert after(4.4, horizon=500) - 0.1 == pytest.approx(2 * (after(4.4) - 0.1))


def test_it_holds_a_kl_that_answers_to_the_price():
    controller = KLController(0.01, 2.0, 1000)
    for _ in range(2000):
        controller.update(1.0 / controller.coef, 50)  # the dearer, the less KL
    assert 1.0 / controller.coef == pytest.approx(2.0, rel=0.01)
