"""What the evaluate stage makes of demonstrations, and of texts that judges saw a part of."""

import pytest

from pipeline.data.schema import prompt_row, to_json
from pipeline.io import paths
from pipeline.io.records import read_jsonl, write_jsonl
from tests.evaluation.conftest import POLICIES, PROMPTS, completions, scores

NAMES = {"rouge_1", "rouge_2", "rouge_l"}
GUARDS = {"rouge_l": {"change": "relative", "min": -0.5, "max": None}}


def demonstrate(texts):
    """Write the evaluation prompts with these demonstrations, by the place of the prompt."""
    rows = [
        prompt_row(row.prompt, row.categories, demonstrations=texts.get(index, [])) for index, row in enumerate(PROMPTS)
    ]
    write_jsonl(paths.formatted("exp", "eval"), [to_json(row) for row in rows])


@pytest.fixture
def repeated(experiment):
    """Return the experiment with a guard on ROUGE-L, and demonstrations that every completion repeats word by word."""
    experiment.parameters(evaluate={"guards": GUARDS})
    for policy in POLICIES:
        experiment.alter(completions(policy), lambda row: row | {"completion": f"It is {row['prompt']}, said a goose."})
    demonstrate({index: ["Nothing of it.", f"It is {row.prompt}, said a goose."] for index, row in enumerate(PROMPTS)})
    return experiment


def test_completions_that_repeat_a_demonstration_overlap_wholly(repeated):
    evaluation = repeated.evaluate()
    for policy in POLICIES:
        assert evaluation[policy]["rouge"].keys() - {"difference"} == NAMES
        for name in NAMES:
            assert evaluation[policy]["rouge"][name] == {"value": 1, "low": 1, "high": 1}
            assert evaluation[policy]["guards"][name] == 1
            assert evaluation[policy]["seeds"]["0"]["guards"][name] == 1
    assert "difference" not in evaluation["reference"]["rouge"]
    check = evaluation["sft"]["guard_checks"]["rouge_l"]
    assert check["passed"] and check["change"] == {"value": 0, "low": 0, "high": 0}


def test_a_policy_that_says_something_else_loses_overlap_with_an_interval_and_breaks_the_guard(repeated):
    repeated.alter(completions("ppo"), lambda row: row | ({"completion": "honk"} if row["sample"] else {}))
    found = repeated.evaluate()["ppo"]
    assert found["rouge"]["rouge_l"]["value"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["rouge"]["difference"]["rouge_l"]["value"] == pytest.approx(-2 / 3, abs=1e-6)
    assert found["guard_checks"]["rouge_l"]["change"]["value"] == pytest.approx(-2 / 3, abs=1e-6)
    assert found["guards_failed"] == "rouge_l"


def test_prompts_without_a_demonstration_take_no_part(repeated):
    demonstrate({0: [f"It is {PROMPTS[0].prompt}, said a goose."]})
    assert repeated.evaluate()["dpo"]["guards"]["rouge_1"] == 1


def test_without_any_demonstration_overlap_is_absent_and_its_guard_fails(repeated):
    demonstrate({})
    evaluation = repeated.evaluate()
    for policy in POLICIES:
        assert not NAMES & evaluation[policy]["guards"].keys() and "rouge" not in evaluation[policy]
    check = evaluation["sft"]["guard_checks"]["rouge_l"]
    assert check["change"]["value"] is None and not check["passed"]


def test_how_often_a_judge_saw_a_part_only_is_told_by_judge_and_missing_where_nobody_noted_it(experiment):
    for policy in POLICIES:
        rows = read_jsonl(scores(policy))
        told = [row | ({"cut": row["sample"] == 0} if row["judge"] == "minilm" else {}) for row in rows]
        write_jsonl(scores(policy), told)
    experiment.alter(scores("dpo"), lambda row: {key: value for key, value in row.items() if key != "cut"})
    evaluation = experiment.evaluate()
    assert evaluation["sft"]["judges"]["minilm"]["cut_rate"] == pytest.approx(1 / 3, abs=1e-6)
    assert evaluation["sft"]["judges"]["profanity"]["cut_rate"] is None, "missing, not 0"
    assert evaluation["dpo"]["judges"]["minilm"]["cut_rate"] is None
    assert evaluation["meta"]["perplexity_model"] == "base"
