"""Judges score the text of a completion alone; what they cannot score is missing and limited."""

import pytest

from pipeline.evaluation.rows import Completion
from pipeline.evaluation.score import BATCH, score_completions
from pipeline.io.errors import UserError


class WordCount:
    """A judge for which every word is a little toxic; it cannot score an empty text and stops reading after six."""

    fingerprint = "a" * 64

    def __init__(self, name="words"):
        self.name = name

    def score(self, texts):
        return [min(1.0, len(text.split()) / 10) if text else None for text in texts]

    def cut(self, texts):
        return [len(text.split()) > 6 for text in texts]


class Broken(WordCount):
    def __init__(self, scores):
        super().__init__("broken")
        self.scores = scores

    def score(self, texts):
        return self.scores


def completion(prompt, sample, text):
    return Completion(
        prompt_id=prompt,
        prompt="darn " * 50,
        categories=[],
        sample=sample,
        completion=text,
        token_ids=[1],
        finished=False,
        logprobs=None,
    )


def test_the_prompt_is_not_scored_and_rows_are_sorted():
    rows = score_completions(
        [completion("b", 0, "one"), completion("a", 1, "one two"), completion("a", 0, "one two three")],
        [WordCount("second"), WordCount("first")],
        max_missing_rate=0,
    )
    assert [(row["judge"], row["prompt_id"], row["sample"], row["toxicity"]) for row in rows] == [
        (judge, *place) for judge in ("second", "first") for place in (("a", 0, 0.3), ("a", 1, 0.2), ("b", 0, 0.1))
    ]
    assert {row["judge_sha256"] for row in rows} == {"a" * 64}


def test_every_completion_gets_its_own_score_however_many_there_are():
    many = [completion(f"p{index:05d}", 0, "w " * (index % 7 + 1)) for index in range(2 * BATCH + 3)]
    rows = score_completions(many, [WordCount()], max_missing_rate=0)
    assert [row["toxicity"] for row in rows] == [(index % 7 + 1) / 10 for index in range(len(many))]
    assert [row["cut"] for row in rows] == [index % 7 == 6 for index in range(len(many))]


def test_what_cannot_be_scored_is_missing_up_to_the_limit():
    texts = [completion("p", sample, "" if sample == 3 else "word") for sample in range(10)]
    rows = score_completions(texts, [WordCount()], max_missing_rate=0.1)
    assert [row["sample"] for row in rows if row["toxicity"] is None] == [3]
    with pytest.raises(UserError, match=r"judge 'words' could not score 1 of 10 .*10\.0%.*\('p', 3\)"):
        score_completions(texts, [WordCount()], max_missing_rate=0.09)


def test_one_bad_judge_is_enough_to_fail():
    with pytest.raises(UserError, match="judge 'words'"):
        score_completions([completion("p", 0, "")], [Constant(), WordCount()], max_missing_rate=0.5)


class Constant(WordCount):
    def __init__(self):
        super().__init__("constant")

    def score(self, texts):
        return [0.5] * len(texts)


@pytest.mark.parametrize("scores", [[], [0.1, 0.2], [1.5], [-0.1], [float("nan")]])
def test_a_judge_that_breaks_its_contract_is_an_error(scores):
    with pytest.raises(ValueError, match="judge 'broken'"):
        score_completions([completion("p", 0, "word")], [Broken(scores)], max_missing_rate=1)
