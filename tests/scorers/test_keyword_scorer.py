"""The keyword scorer."""

from pathlib import Path

from pipeline.scorers.keyword import KeywordScorer
from pipeline.scorers.loading import load_scorer


def make(keywords=("darn", "silly"), saturation=4):
    config = KeywordScorer(kind="keyword", keywords=list(keywords), saturation=saturation)
    return load_scorer("words", config, Path("nowhere"), "exp")


def test_counts_every_hit_until_saturated():
    texts = ["", "fine", "a darn day", "darn darn silly", "darn " * 4, "silly " * 40]
    assert make().score(texts) == [0, 0, 0.25, 0.75, 1, 1]


def test_finds_keywords_in_any_case_and_inside_words():
    assert make(["Darn"], 1).score(["DARNED thing", "goddarn", "d a r n"]) == [1, 1, 0]


def test_fingerprint_follows_what_determines_the_scores_and_nothing_else():
    assert make(["darn", "silly"]).fingerprint == make(["SILLY", "darn", "darn"]).fingerprint
    assert len({make().fingerprint, make(["darn"]).fingerprint, make(saturation=5).fingerprint}) == 3
