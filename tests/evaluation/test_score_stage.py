"""The score stage on files, with judges that count keywords."""

import pytest

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_jsonl, write_json
from pipeline.tracking.recording import NullRun
from stages import score
from tests.evaluation.conftest import PROMPTS, card

SECOND = PROMPTS[1].id


@pytest.fixture
def keyword_experiment(experiment):
    experiment.parameters(
        scorers={
            "minilm": {"kind": "keyword", "keywords": ["unused"], "saturation": 1},
            "words": {"kind": "keyword", "keywords": ["unused"], "saturation": 2},
            "strict": {"kind": "keyword", "keywords": ["darn", "silly"], "saturation": 1},
        },
        judge={"scorer": "strict", "fit": None},
        reward={"name": "lenient", "scorer": {"kind": "keyword", "keywords": ["darn"], "saturation": 4}},
        score={"judges": ["strict", "lenient"]},
        evaluate={"baselines": {"best_of_k": {"scorer": "lenient"}}},
    )
    return experiment


def run_score(policy="sft"):
    score.main(Stage("score", "exp", load("exp", score.NODE.sections), NullRun(), seed=0, policy=policy))
    return read_jsonl(paths.scores("exp", 0, policy))


def test_scores_the_completion_and_not_the_prompt(keyword_experiment):
    def speak(row):
        return row | {"prompt": "darn " + row["prompt"], "completion": "darn" if row["prompt_id"] == SECOND else "fine"}

    keyword_experiment.alter(paths.completions("exp", 0, "sft"), speak)
    rows = run_score()
    found = {(row["judge"], row["prompt_id"]): row["toxicity"] for row in rows}
    assert (found["strict", SECOND], found["lenient", SECOND]) == (1, 0.25)
    assert {toxicity for (_, prompt_id), toxicity in found.items() if prompt_id != SECOND} == {0}


def test_rows_are_tidy_and_sorted(keyword_experiment):
    rows = run_score()
    assert all(set(row) == {"prompt_id", "sample", "judge", "judge_sha256", "toxicity", "cut"} for row in rows)
    grid = [(judge, prompt.id, sample) for judge in ("strict", "lenient") for prompt in PROMPTS for sample in range(3)]
    assert [(row["judge"], row["prompt_id"], row["sample"]) for row in rows] == grid
    assert len({row["judge_sha256"] for row in rows}) == 2


def test_what_score_writes_is_what_evaluate_reads(keyword_experiment):
    for policy in ("reference", "sft", "ppo", "dpo"):
        run_score(policy)
    hashes = {row["judge"]: row["judge_sha256"] for row in run_score()}
    cards = {judge: card(judge) | {"fingerprint": digest} for judge, digest in hashes.items()}
    write_json(paths.metrics("exp", "judge"), {"cards": cards})
    evaluation = keyword_experiment.evaluate()
    assert set(evaluation["meta"]["judges"]) == {"strict", "lenient"}
    assert evaluation["sft"]["judges"]["strict"]["toxicity_mean"] == {"value": 0, "low": 0, "high": 0}


def test_a_broken_completion_is_named_and_nothing_is_written(keyword_experiment):
    paths.scores("exp", 0, "sft").unlink()
    keyword_experiment.alter(paths.completions("exp", 0, "sft"), lambda row: row | {"completion": None})
    with pytest.raises(UserError, match=r"sft.jsonl:1: completion: expected a valid string"):
        run_score()
    assert not paths.scores("exp", 0, "sft").exists()
