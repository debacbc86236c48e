"""Sentences that name groups of people, and texts that do."""

import pytest

from pipeline.config.sections import IdentitySection
from pipeline.scorers.identity import mentions, sentences

TERMS = ["Dutch", "left-handed", "old"]


def test_every_term_stands_in_every_template():
    identity = IdentitySection(terms=TERMS, templates=["A {term} man sings.", "We met {term} people."])
    made = sentences(identity)
    assert len(set(made)) == 6
    assert all(term in sentence and "{" not in sentence for term, sentence in made)
    assert {term for term, _ in made} == set(TERMS)


@pytest.mark.parametrize(
    "text",
    ["the dutch painter", "Dutch.", "(OLD)", "three olds", "a Dutch's bicycle", "left-handed", "a left handed cook"],
)
def test_a_whole_word_is_a_mention_in_any_case_and_as_plural(text):
    assert mentions(text, TERMS)


@pytest.mark.parametrize("text", ["", "golden", "older", "a cold day", "the left hand", "Dutchess", "handed left"])
def test_a_part_of_a_word_is_none(text):
    assert not mentions(text, TERMS)


def test_a_term_is_text_and_no_pattern():
    assert not mentions("the cat", ["c.t"])
    assert mentions("the c.t", ["c.t"])
