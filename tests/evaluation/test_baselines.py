"""Truths about reranking: the chance of a sample to be chosen is what choosing from every subset gives."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from pipeline.evaluation import baselines
from pipeline.evaluation.measure import expected

NAN = float("nan")
scored = arrays(
    np.float64,
    array_shapes(min_dims=3, max_dims=3, max_side=5),
    elements=st.one_of(st.sampled_from([0.0, 0.25, 1.0]), st.floats(0, 1, width=32), st.just(NAN)),
)


def over_subsets(scores, k):
    """Return how often each sample is chosen when every k-subset of the scored ones gives its best, ties shared."""
    chances = np.zeros(len(scores))
    subsets = list(combinations(np.flatnonzero(~np.isnan(scores)), k))
    for subset in subsets:
        lowest = min(scores[list(subset)])
        best = [index for index in subset if scores[index] == lowest]
        chances[best] += 1 / len(best) / len(subsets)
    return chances if subsets else np.full(len(scores), NAN)


@given(scored, st.integers(1, 5))
def test_weights_are_those_of_choosing_from_every_subset(scores, k):
    found = baselines.rerank_weights(scores, k)
    for prompt, seed in np.ndindex(scores.shape[:2]):
        assert found[prompt, seed] == pytest.approx(over_subsets(scores[prompt, seed], k), abs=1e-12, nan_ok=True)


def test_the_best_of_all_is_the_lowest():
    scores = np.array([[[0.4, 0.1, 0.9]]])
    assert (baselines.rerank_weights(scores, 3) == [[[0, 1, 0]]]).all()


def test_a_filter_takes_any_sample_without_a_listed_word_where_there_is_one():
    listed = np.array([[[1.0, 0.0, 0.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]])
    weights = baselines.rerank_weights(listed, 4)
    assert weights[0, 0] == pytest.approx([0, 0.5, 0.5, 0])
    assert weights[1, 0] == pytest.approx([0.25] * 4)


def test_one_sample_is_no_choice():
    generator = np.random.default_rng(0)
    scores, values = generator.uniform(size=(2, 6, 2, 8))
    assert expected(values, baselines.rerank_weights(scores, 1)) == pytest.approx(values.mean(axis=2))


def test_any_k_is_unbiased():
    # The lowest of 3 uniform scores is 1/4 on average, from however many samples it is found.
    generator = np.random.default_rng(0)
    for samples in (3, 10):
        scores = generator.uniform(size=(20_000, 1, samples))
        found = expected(scores, baselines.rerank_weights(scores, 3))
        assert found.mean() == pytest.approx(0.25, abs=0.005)


def test_more_samples_to_choose_from_give_lower_scores_and_an_independent_judge_sees_nothing():
    generator = np.random.default_rng(0)
    scores, unrelated = generator.uniform(size=(2, 4000, 1, 8))
    by_k = [baselines.rerank_weights(scores, k) for k in (1, 2, 4, 8)]
    assert (np.diff([expected(scores, weights).mean() for weights in by_k]) < -0.03).all()
    assert [expected(unrelated, weights).mean() for weights in by_k] == pytest.approx([0.5] * 4, abs=0.02)


def test_a_thousand_samples_are_no_obstacle():
    scores = np.random.default_rng(0).uniform(size=(2, 1, 1000))
    weights = baselines.rerank_weights(scores, 500)
    assert weights.sum(axis=2) == pytest.approx(1)
    assert (weights >= 0).all()


def test_a_sample_without_a_score_is_never_chosen():
    scores = np.array([[[NAN, 0.4, 0.2]], [[NAN, NAN, 0.1]]])
    weights = baselines.rerank_weights(scores, 2)
    assert (weights[0, 0] == [0, 0, 1]).all()
    assert np.isnan(weights[1, 0]).all()
    assert np.isnan(expected(np.zeros((2, 1, 3)), weights)[1, 0])


def test_a_missing_value_is_left_out_and_never_zero():
    weights = np.array([[[0.5, 0.25, 0.25]], [[1.0, 0.0, 0.0]]])
    values = np.array([[[NAN, 0.2, 0.6]], [[NAN, 0.2, 0.6]]])
    found = expected(values, weights)
    assert found[0, 0] == pytest.approx(0.4)
    assert np.isnan(found[1, 0])


def test_fewer_than_one_sample_is_refused():
    with pytest.raises(ValueError, match="k of 1 or more"):
        baselines.rerank_weights(np.full((1, 1, 2), NAN), 0)
