"""A failed score is missing: it takes no other text with it and never becomes a number."""

import math

import pytest

from pipeline.scorers.scoring import score_each


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, -0.1, 1.5])
def test_a_number_that_is_no_toxicity_is_missing(broken):
    assert score_each(lambda texts: [broken if text == "bad" else 0.5 for text in texts], ["a", "bad", "b"]) == [
        0.5,
        None,
        0.5,
    ]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_only_the_text_that_raises_is_missing(count):
    def score(texts):
        if "bad" in texts:
            raise RuntimeError("cannot read this")
        return [len(text) / 10 for text in texts]

    for place in range(count):
        texts = ["x" * (1 + index % 9) for index in range(count)]
        texts[place] = "bad"
        expected = [None if text == "bad" else len(text) / 10 for text in texts]
        assert score_each(score, texts) == expected


def test_the_log_names_the_error_and_not_the_text(caplog):
    def score(texts):
        raise RuntimeError("about darn")

    assert score_each(score, ["darn"]) == [None]
    assert "RuntimeError" in caplog.text and "darn" not in caplog.text


def test_no_texts_are_no_scores():
    assert score_each(lambda texts: pytest.fail("asked for nothing"), []) == []


def test_a_scorer_that_loses_a_text_is_an_error():
    with pytest.raises(ValueError, match="1 scores for 2 texts"):
        score_each(lambda texts: [0.5], ["a", "b"])
