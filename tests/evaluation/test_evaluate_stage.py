"""The evaluate stage on files: what it reads, what it refuses, and what stands in evaluation.json."""

import csv
import json
import logging
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json, read_jsonl, write_json, write_jsonl
from tests.evaluation.conftest import PROMPTS, completions, probed, scores

ROOT = Path(__file__).resolve().parents[2]
FOURTH = PROMPTS[3].id
INTERVALS = {"toxicity_mean", "expected_max_toxicity", "toxicity_probability", "toxic_fraction"}
GUARDS = {
    "perplexity_median",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "repetition",
    "empty_rate",
    "length_mean",
    "kl",
}


ABOUT_ALL = {"baselines", "comparisons", "agreement", "champion"}


def written():
    plots = [paths.plot("exp", name) for name in ("evaluation", "pareto", "scores", "categories", "prompts")]
    return [path.read_bytes() for path in (paths.metrics("exp", "evaluation"), *plots)]


def test_has_the_keys_that_others_read(experiment):
    evaluation = experiment.evaluate()
    meta = evaluation["meta"]
    assert evaluation["schema_version"] == 1
    assert (meta["primary_judge"], meta["reward_scorer"]) == ("minilm", "profanity")
    assert (meta["prompts"], meta["samples_per_prompt"], meta["seeds"]) == (6, 3, [0])
    assert meta["decoding"]["max_new_tokens"] > 0 and set(meta["judges"]) == {"minilm", "profanity"}
    assert set(evaluation) == {"schema_version", "meta", "reference", "sft", "ppo", "dpo", *ABOUT_ALL}
    for policy in ("reference", "sft", "ppo", "dpo"):
        assert GUARDS <= set(evaluation[policy]["guards"])
        for judge in evaluation[policy]["judges"].values():
            compared = {"difference"} if policy != "reference" else set()
            assert set(judge) == INTERVALS | {"missing_rate", "cut_rate", "emt_at_k", "prevalence"} | compared
            for intervals in (judge, judge.get("difference", {})):
                assert all(set(intervals[name]) == {"value", "low", "high"} for name in INTERVALS & set(intervals))


def test_a_difference_is_policy_minus_reference(experiment):
    evaluation = experiment.evaluate()
    for name in INTERVALS:
        own, other = (evaluation[policy]["judges"]["minilm"] for policy in ("dpo", "reference"))
        assert own["difference"][name]["value"] == pytest.approx(own[name]["value"] - other[name]["value"], abs=2e-6)


def test_a_policy_that_equals_the_reference_differs_by_exactly_zero(experiment):
    for place in (completions, scores):
        place("ppo").write_bytes(place("reference").read_bytes())
    experiment.alter(completions("reference"), unchanged_policy)
    experiment.alter(completions("ppo"), unchanged_policy)
    evaluation = experiment.evaluate()
    for judge in evaluation["ppo"]["judges"].values():
        assert all(interval == {"value": 0, "low": 0, "high": 0} for interval in judge["difference"].values())
    assert evaluation["ppo"]["guards"]["kl"] == evaluation["reference"]["guards"]["kl"] == 0
    changes = {name: check["change"]["value"] for name, check in evaluation["ppo"]["guard_checks"].items()}
    assert all(changes[name] == 0 for name in ("perplexity_median", "distinct_2", "repetition", "length_mean"))
    assert evaluation["ppo"]["verdict"]["outcome"] == "no gain"


def unchanged_policy(row):
    if row["logprobs"]:
        row["logprobs"]["policy"] = row["logprobs"]["reference"]
    return row


def test_constant_scores_have_intervals_without_width(experiment):
    for policy in ("reference", "sft", "ppo", "dpo"):
        experiment.alter(scores(policy), lambda row: row | {"toxicity": 0.3})
    judge = experiment.evaluate()["sft"]["judges"]["minilm"]
    assert judge["toxicity_mean"] == judge["expected_max_toxicity"] == {"value": 0.3, "low": 0.3, "high": 0.3}


def test_a_missing_score_is_counted_and_is_not_zero(experiment):
    def lose_one(row):
        lost = (row["prompt_id"], row["sample"], row["judge"]) == (PROMPTS[0].id, 0, "minilm")
        return row | {"toxicity": None if lost else 0.8}

    experiment.alter(scores(), lose_one)
    judges = experiment.evaluate()["sft"]["judges"]
    assert judges["minilm"]["toxicity_mean"]["value"] == 0.8
    assert judges["minilm"]["missing_rate"] == pytest.approx(1 / 18, abs=1e-6)
    assert judges["profanity"]["missing_rate"] == 0


def test_the_order_of_rows_changes_no_byte(experiment):
    experiment.evaluate()
    before = written()
    shuffler = random.Random(0)
    for policy in ("reference", "sft", "ppo", "dpo"):
        for path in (completions(policy), scores(policy)):
            rows = read_jsonl(path)
            shuffler.shuffle(rows)
            write_jsonl(path, rows)
    experiment.evaluate()
    assert written() == before


def test_a_seed_that_leaves_the_roster_is_ignored_and_comes_back(experiment, caplog):
    experiment.make([1])
    caplog.set_level(logging.INFO)
    alone = experiment.evaluate()
    strays = "".join(message for message in caplog.messages if "ignored" in message)
    assert all(str(place("dpo", 1)) in strays for place in (completions, scores, probed))
    experiment.roster([0, 1])
    both = experiment.evaluate()
    assert both["meta"]["seeds"] == [0, 1]
    assert both["sft"]["judges"] != alone["sft"]["judges"]
    assert both["sft"]["seeds"]["0"] == alone["sft"]["seeds"]["0"]
    experiment.roster([0])
    assert experiment.evaluate() == alone


def test_seeds_are_pooled_with_equal_weight(experiment):
    experiment.make([1])
    experiment.roster([0, 1])
    policy = experiment.evaluate()["sft"]
    for judge, pooled in policy["judges"].items():
        for name in INTERVALS:
            by_seed = [policy["seeds"][seed]["judges"][judge][name] for seed in ("0", "1")]
            assert pooled[name]["value"] == pytest.approx(sum(by_seed) / 2, abs=2e-6)
    kl = [policy["seeds"][seed]["guards"]["kl"] for seed in ("0", "1")]
    assert policy["guards"]["kl"] == pytest.approx(sum(kl) / 2, abs=2e-6)


def test_a_policy_that_leaves_the_roster_is_ignored(experiment, caplog):
    caplog.set_level(logging.INFO)
    experiment.roster([0], ["dpo"])
    evaluation = experiment.evaluate()
    assert set(evaluation) == {"schema_version", "meta", "reference", "dpo", *ABOUT_ALL}
    assert set(evaluation["comparisons"]) == {"dpo"}
    assert str(scores("ppo")) in caplog.text and str(scores("dpo")) not in caplog.text


@pytest.mark.parametrize("place", [completions, scores])
def test_a_missing_file_fails_and_is_named(experiment, place):
    place("ppo").unlink()
    with pytest.raises(UserError, match=f"{place('ppo')}: not found"):
        experiment.evaluate()
    assert not paths.metrics("exp", "evaluation").exists()


def change(key, value, sample=2):
    """Return a function that sets one key in the rows of the fourth prompt with that sample."""
    return lambda row: row | {key: value} if (row["prompt_id"], row["sample"]) == (FOURTH, sample) else row


def drop(row):
    return None if (row["prompt_id"], row["sample"]) == (FOURTH, 2) else row


@pytest.mark.parametrize(
    ("place", "alteration", "message"),
    [
        (completions, drop, f"lacks prompt '{FOURTH}' sample 2"),
        (completions, change("sample", 9), f"lacks prompt '{FOURTH}' sample 2"),
        (completions, change("sample", 0), f"prompt '{FOURTH}' sample 0 stands here a second time"),
        (completions, change("prompt", "Another"), f"prompt '{FOURTH}' sample 2: prompt: expected the prompt of"),
        (
            completions,
            change("logprobs", {"policy": -1, "reference": -1, "base": -1}),
            "sample 2: logprobs: expected them where",
        ),
        (completions, change("token_ids", "12"), ":12: token_ids"),
        (scores, drop, f"lacks prompt '{FOURTH}' sample 2, which the file of completions"),
        (scores, change("sample", 0), "judge 'minilm' stands here a second time"),
        (scores, change("judge", "stranger"), ":12: judge: expected one of minilm, profanity"),
        (scores, change("judge_sha256", "0" * 64), ":12: judge_sha256: 'minilm' is 000"),
        (scores, change("toxicity", 1.2), ":12: toxicity: .*less than or equal to 1"),
        (scores, change("toxicity", "0.2"), ":12: toxicity"),
    ],
)
def test_files_that_cannot_be_compared_are_refused(experiment, place, alteration, message):
    experiment.alter(place(), alteration)
    with pytest.raises(UserError, match=message) as error:
        experiment.evaluate()
    assert str(place()) in str(error.value)


def test_fewer_samples_than_the_parameters_say_are_refused(experiment):
    for policy in ("reference", "sft", "ppo", "dpo"):
        for path in (completions(policy), scores(policy)):
            experiment.alter(path, lambda row: row if row["sample"] < 2 else None)
    with pytest.raises(UserError, match=rf"lacks prompt '{PROMPTS[0].id}' sample 2.*samples_per_prompt = 3"):
        experiment.evaluate()


def test_a_judge_that_did_not_score_is_refused(experiment):
    experiment.alter(scores("dpo"), lambda row: row if row["judge"] == "minilm" else None)
    with pytest.raises(UserError, match="judge 'profanity'"):
        experiment.evaluate()


def test_a_judge_that_changed_between_seeds_is_refused(experiment):
    experiment.make([1])
    experiment.roster([0, 1])
    experiment.alter(scores("sft", 1), lambda row: row | {"judge_sha256": "1" * 64})
    with pytest.raises(UserError, match=f"{scores('sft', 1)}:1: judge_sha256"):
        experiment.evaluate()


def test_scores_of_another_version_of_a_judge_are_refused(experiment):
    cards = read_json(paths.metrics("exp", "judge"))
    cards["cards"]["minilm"]["fingerprint"] = "2" * 64
    write_json(paths.metrics("exp", "judge"), cards)
    with pytest.raises(UserError, match=r"judge\.json: cards\.minilm\.fingerprint: the scores are of"):
        experiment.evaluate()


def test_the_plot_holds_the_numbers_of_the_evaluation(experiment):
    evaluation = experiment.evaluate()
    with paths.plot("exp", "evaluation").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({row["judged"] for row in rows}) == 4 * 2
    for row in rows:
        for metric in INTERVALS:
            interval = evaluation[row["policy"]]["judges"][row["judge"]][metric]
            columns = {"value": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
            assert {end: float(row[column]) for end, column in columns.items()} == interval


def test_only_the_bootstrap_depends_on_its_seed(experiment):
    before = experiment.evaluate()
    experiment.parameters(evaluate={"seed": 1})
    after = experiment.evaluate()
    assert after["sft"]["judges"] != before["sft"]["judges"]
    assert after["sft"]["seeds"] == before["sft"]["seeds"]


def run(*command):
    """Run Python in the working directory of the test with this repository's modules, without tracking."""
    environment = {"PYTHONPATH": str(ROOT), "TRACKING": "off", "PATH": ""}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=60)


def test_a_missing_file_is_one_message_and_exit_code_2(experiment):
    scores("ppo").unlink()
    ended = run("-m", "stages.evaluate", "exp")
    assert ended.returncode == 2
    assert ended.stderr.strip() == f"evaluate: {scores('ppo')}: not found; run `dvc repro` (or `dvc pull`) to make it"


def test_loads_no_model_library(experiment):
    probe = (
        "import sys, runpy; sys.argv = ['evaluate', 'exp']; runpy.run_module('stages.evaluate', run_name='__main__');"
    )
    ended = run("-c", probe + "import json; print(json.dumps(sorted(sys.modules)))")
    assert ended.returncode == 0, ended.stderr
    loaded = set(json.loads(ended.stdout))
    assert not loaded & {"torch", "transformers", "peft", "trl", "datasets"}
    assert paths.metrics("exp", "evaluation").exists()
