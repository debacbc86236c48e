"""Scores of any scale are brought into one range, by what was seen of them in all rollouts so far."""

import numpy as np
import pytest
import torch

from pipeline.methods.ppo.objectives import ScoreScaling

SIZES = [5, 1, 16, 2, 40]


def rollouts(offset: float = 3.0, scale: float = 7.0) -> list[torch.Tensor]:
    """Return scores of several rollouts of unequal size, each around another mean."""
    generator = torch.Generator().manual_seed(0)
    return [offset * (index + 1) + scale * torch.randn(size, generator=generator) for index, size in enumerate(SIZES)]


@pytest.mark.parametrize("kind", ["scale", "normalize"])
def test_moments_run_over_all_rollouts_so_far(kind: str) -> None:
    scaling, made = ScoreScaling(kind, None), rollouts()
    for index, scores in enumerate(made):
        seen = np.concatenate([item.double().numpy() for item in made[: index + 1]])
        expected = (scores.numpy() - (seen.mean() if kind == "normalize" else 0.0)) / seen.std(ddof=1)
        np.testing.assert_allclose(scaling(scores), expected, rtol=1e-5, atol=1e-6)
    assert scaling.count == len(seen)
    assert scaling.mean == pytest.approx(seen.mean(), rel=1e-12)
    assert scaling.squares / (scaling.count - 1) == pytest.approx(seen.var(ddof=1), rel=1e-12)


def test_a_large_mean_does_not_wash_the_spread_out() -> None:
    scaling = ScoreScaling("scale", None)
    for scores in rollouts(offset=0.0, scale=1e-3):
        scaling(scores.double() + 1e6)
    assert scaling.squares / (scaling.count - 1) == pytest.approx(torch.cat(rollouts(0.0, 1e-3)).var().item(), rel=1e-3)


@pytest.mark.parametrize("kind", ["scale", "normalize"])
def test_the_unit_of_the_scores_does_not_matter(kind: str) -> None:
    small, large = ScoreScaling(kind, None), ScoreScaling(kind, None)
    for scores in rollouts():
        torch.testing.assert_close(small(scores), large(1000 * scores))


def test_scaling_alone_keeps_the_sign_and_the_zero() -> None:
    scores = torch.tensor([-4.0, 0.0, 10.0])
    assert torch.equal(ScoreScaling("scale", None)(scores).sign(), scores.sign())


@pytest.mark.parametrize("value", [0.1, -2.7, 0.0])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_equal_scores_stay_as_they_are(value: float, size: int) -> None:
    scaling, scores = ScoreScaling("scale", None), torch.full((size,), value)
    for _ in range(5):
        assert torch.equal(scaling(scores), scores)


def test_equal_scores_are_all_at_the_mean() -> None:
    scaling, scores = ScoreScaling("normalize", None), torch.full((7,), 0.1)
    for _ in range(5):
        assert scaling(scores).abs().max() < 1e-7


@pytest.mark.parametrize("kind", ["none", "scale", "normalize"])
def test_clipping_comes_last_and_bounds_what_comes_out(kind: str) -> None:
    free, clipped = ScoreScaling(kind, None), ScoreScaling(kind, 0.5)
    plain, bounded = (torch.cat([scaling(scores) for scores in rollouts()]) for scaling in (free, clipped))
    assert torch.equal(bounded, plain.clamp(-0.5, 0.5)) and plain.max() > 0.5
    assert kind != "normalize" or plain.min() < -0.5


def test_none_is_the_identity() -> None:
    scaling = ScoreScaling("none", None)
    assert all(torch.equal(scaling(scores), scores) for scores in rollouts())
