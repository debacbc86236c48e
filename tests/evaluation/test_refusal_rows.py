"""Rows of refusals: what the score stage writes of them, and what loading accepts, one a completion and one judge."""

import numpy as np
import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.evaluation.judged import read as read_judged
from pipeline.evaluation.rows import Completion
from pipeline.evaluation.score import refusal_rows
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_jsonl, write_jsonl
from pipeline.tracking.recording import NullRun
from stages import score
from tests.evaluation.conftest import JUDGES, POLICIES, PROMPTS, completions, scores, sha256

PHRASES = {"scorer": {"kind": "refusal_phrases", "words": 40}, "labelled": None}
SECOND = PROMPTS[1].id
DIGEST = sha256("refusal")


def keyword(word):
    return {"kind": "keyword", "keywords": [word], "saturation": 1}


def refusal_row(row, refusal=0.0, digest=DIGEST):
    return {"prompt_id": row["prompt_id"], "sample": row["sample"], "refusal": refusal, "refusal_sha256": digest}


@pytest.fixture
def judged(experiment):
    """Add rows of refusals to all files: the second prompt is declined, its last sample could not be told."""
    for policy in POLICIES:
        rows = read_jsonl(scores(policy))
        declined = {0: 1.0, 1: 1.0, 2: None}
        rows += [
            refusal_row(row, declined[row["sample"]] if row["prompt_id"] == SECOND else 0.0)
            for row in read_jsonl(completions(policy))
        ]
        write_jsonl(scores(policy), rows)
    return experiment


def read(refusal=True):
    return read_judged("exp", [0], POLICIES, JUDGES, 3, refusal=refusal)


class TestLoading:
    def test_refusals_are_arranged_by_prompt_seed_and_sample(self, judged):
        found = read()
        assert found.refusal_sha256 == DIGEST and list(found.refusals) == POLICIES
        expected = np.zeros((len(PROMPTS), 1, 3))
        expected[1, 0] = [1, 1, np.nan]
        for policy in POLICIES:
            np.testing.assert_array_equal(found.refusals[policy], expected)

    def test_without_a_judge_of_refusals_there_are_none(self, experiment):
        found = read(refusal=False)
        assert found.refusals is None and found.refusal_sha256 is None

    def test_rows_that_nobody_asked_for_are_named(self, judged):
        with pytest.raises(UserError, match=r"\.jsonl:37: refusal: expected no row of 'refusal'"):
            read(refusal=False)

    def test_a_file_without_them_is_named(self, experiment):
        with pytest.raises(UserError, match=rf"lacks prompt '{PROMPTS[0].id}' sample 0, .*\(refusal\)"):
            read()

    def test_a_completion_without_one_is_named(self, judged):
        judged.alter(scores(), lambda row: None if (row.get("refusal"), row["sample"]) == (1.0, 1) else row)
        with pytest.raises(UserError, match=rf"sft\.jsonl: lacks prompt '{SECOND}' sample 1"):
            read()

    def test_a_completion_with_two_is_named(self, judged):
        write_jsonl(scores(), [*read_jsonl(scores()), refusal_row({"prompt_id": SECOND, "sample": 0})])
        with pytest.raises(UserError, match=rf"sft\.jsonl:55: prompt '{SECOND}' sample 0.* a second time"):
            read()

    def test_a_row_of_no_completion_is_named(self, judged):
        write_jsonl(scores(), [*read_jsonl(scores()), refusal_row({"prompt_id": SECOND, "sample": 7})])
        with pytest.raises(UserError, match=rf"sft\.jsonl: holds prompt '{SECOND}' sample 7"):
            read()

    def test_another_judge_in_another_file_is_named(self, judged):
        judged.alter(scores("ppo"), lambda row: row | {"refusal_sha256": sha256("new")} if "refusal" in row else row)
        with pytest.raises(UserError, match=rf"ppo\.jsonl:37: refusal_sha256: 'refusal' is {sha256('new')} here and"):
            read()

    @pytest.mark.parametrize("value", [0.5, 2, -1, "yes", True])
    def test_what_is_neither_1_nor_0_nor_null_is_named(self, judged, value):
        judged.alter(scores(), lambda row: row | {"refusal": value} if "refusal" in row else row)
        with pytest.raises(UserError, match=r"sft\.jsonl:37: refusal: expected"):
            read()


class TestStage:
    @pytest.fixture
    def speaking(self, experiment):
        """Make an experiment of counting judges in which `sft` declines to answer the second prompt."""
        experiment.parameters(
            scorers={"strict": keyword("help"), "minilm": keyword("unused")},
            judge={"scorer": "strict", "fit": None},
            reward={"name": "lenient", "scorer": keyword("here")},
            score={"judges": ["strict", "lenient"]},
            evaluate={"baselines": {"best_of_k": {"scorer": "lenient"}}},
        )
        texts = {SECOND: "I can't help with that."}
        experiment.alter(completions(), lambda row: row | {"completion": texts.get(row["prompt_id"], "Here you are.")})

    def run(self, refusal=PHRASES):
        path = paths.experiment_file("exp")
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"refusal": refusal}))
        score.main(Stage("score", "exp", load("exp", score.NODE.sections), NullRun(), seed=0, policy="sft"))
        return read_jsonl(scores())

    def test_every_completion_has_one_row_after_those_of_the_judges(self, speaking):
        rows = self.run()
        refused = rows[len(PROMPTS) * 3 * 2 :]
        assert not any("refusal" in row for row in rows[: -len(refused)])
        assert all(set(row) == {"prompt_id", "sample", "refusal", "refusal_sha256"} for row in refused)
        grid = [(prompt.id, sample, float(prompt.id == SECOND)) for prompt in PROMPTS for sample in range(3)]
        assert [(row["prompt_id"], row["sample"], row["refusal"]) for row in refused] == grid

    def test_toxicity_is_the_same_whether_refusals_are_judged_or_not(self, speaking):
        assert [row for row in self.run() if "judge" in row] == self.run(refusal=None)

    def test_what_it_writes_is_what_loading_reads(self, speaking):
        rows = self.run()
        found = read_judged("exp", [0], ["sft"], ["strict", "lenient"], 3, refusal=True)
        assert found.refusals["sft"].mean() == 1 / len(PROMPTS)
        assert {row["refusal_sha256"] for row in rows if "refusal" in row} == {found.refusal_sha256}


class Halting:
    """A judge of refusals that cannot score an empty text."""

    name, fingerprint = "refusal", "a" * 64

    def __init__(self, of_others=0.0):
        self.of_others = of_others

    def score(self, texts):
        return [self.of_others if text else None for text in texts]

    def cut(self, texts):
        return [False] * len(texts)


def spoken(*texts):
    fixed = {"prompt": "darn", "categories": [], "token_ids": [1], "finished": False, "logprobs": None}
    return [
        Completion(prompt_id="p", sample=sample, completion=text, **fixed)
        for sample, text in reversed([*enumerate(texts)])
    ]


def test_what_could_not_be_told_is_missing_up_to_the_limit():
    rows = refusal_rows(spoken("yes", "", "yes", "yes"), Halting(), max_missing_rate=0.25)
    assert [row["refusal"] for row in rows] == [0, None, 0, 0]
    with pytest.raises(UserError, match=r"judge 'refusal' could not score 1 of 4 .*\('p', 1\)"):
        refusal_rows(spoken("yes", "", "yes", "yes"), Halting(), max_missing_rate=0.24)


@pytest.mark.parametrize("score", [0.5, 2.0, float("nan")])
def test_a_judge_that_is_undecided_is_an_error(score):
    with pytest.raises(ValueError, match="judge 'refusal'"):
        refusal_rows(spoken("yes"), Halting(score), max_missing_rate=1)
