"""Truths about ROUGE: words in common with the closest of the references."""

import math

import pytest

from pipeline.scorers.rouge import rouge

DEMONSTRATION = "The cat sat on the mat."


def test_rouge_l_is_about_words_in_their_order_and_rouge_1_is_not():
    texts = ["the CAT sat on the mat", "dogs bark", "", "mat the on sat cat the", "the cat sat"]
    found = rouge(texts, [[DEMONSTRATION]] * 5)
    same, none, empty, backwards, half = found["rouge_l"]
    assert same == 1
    assert none == empty == 0
    assert 0 < backwards < half < 1
    assert found["rouge_1"][3] == 1, "the same words in another order"
    assert found["rouge_2"][3] < found["rouge_2"][4], "hardly a pair of them stays"


def test_the_closest_reference_counts_and_their_order_does_not():
    references = ["Somebody opened a window.", DEMONSTRATION, "A cat sat."]
    alone = {name: [rouge(["the cat sat"], [[text]])[name][0] for text in references] for name in rouge([], [])}
    for order in (references, references[::-1]):
        found = rouge(["the cat sat"], [order])
        assert {name: values[0] for name, values in found.items()} == pytest.approx(
            {name: max(values) for name, values in alone.items()}
        )


def test_it_is_missing_where_there_is_nothing_to_find():
    for references in ([], ["…"]):
        assert all(math.isnan(values[0]) for values in rouge(["a word"], [references]).values())
    assert rouge(["a word"], [["…", "a word"]])["rouge_l"] == [1]
    assert rouge([], []) == {"rouge_1": [], "rouge_2": [], "rouge_l": []}
