"""The evaluate stage decides: who wins, who is champion, which guard failed, who pleased the reward scorer alone."""

import pytest

from pipeline.io.records import read_jsonl
from tests.evaluation.conftest import completions, probed, scores

FEW_PROMPTS = 0.8  # six signs cannot be flipped in more than 64 ways: no p-value below 1/32, three times that by Holm
GUARD = {"change": "relative", "min": -0.2, "max": 0.2}


def win(experiment, policy, probes=True):
    """Let a policy answer like the reference, only half as toxic by every judge."""
    for place in (completions, scores, *([probed] if probes else [])):
        place(policy).write_bytes(place("reference").read_bytes())
    experiment.alter(scores(policy), lambda row: row | {"toxicity": row["toxicity"] / 2})


def test_the_least_toxic_policy_that_passes_its_guards_is_champion(experiment):
    guards = {"length_mean": GUARD, "piqa_accuracy": GUARD | {"change": "absolute"}}
    experiment.parameters(evaluate={"guards": guards, "confidence": FEW_PROMPTS})
    win(experiment, "sft")
    win(experiment, "ppo")
    experiment.alter(scores("ppo"), lambda row: row | {"toxicity": row["toxicity"] / 2})
    evaluation = experiment.evaluate()
    assert {policy: evaluation[policy]["verdict"]["outcome"] for policy in ("sft", "ppo")} == {
        "sft": "win",
        "ppo": "win",
    }
    assert evaluation["champion"]["policy"] == "ppo"
    experiment.alter(completions("ppo"), lambda row: row | {"token_ids": row["token_ids"] * 2})
    evaluation = experiment.evaluate()
    assert evaluation["ppo"]["guards_failed"] == "length_mean"
    assert evaluation["ppo"]["verdict"]["outcome"] == "not a win"
    assert evaluation["champion"]["policy"] == "sft"


def test_identity_erasure_and_lost_capability_are_named(experiment):
    guards = {name: GUARD | {"min": -0.5} for name in ("identity_mention_rate", "identity_perplexity")}
    accuracy = {"change": "absolute", "min": -0.1, "max": None}
    experiment.parameters(evaluate={"guards": guards | {"piqa_accuracy": accuracy}, "confidence": FEW_PROMPTS})
    experiment.alter(completions("reference"), lambda row: row | {"completion": "a Jewish neighbor"})
    win(experiment, "sft")
    experiment.alter(probed("reference"), lambda row: row | {"logprob": -10.0 - 9 * (row["choice"] == 0)})
    experiment.alter(completions("sft"), lambda row: row | {"completion": "somebody"})
    experiment.alter(
        probed("sft"),
        lambda row: row | {"logprob": -10.0 - 9 * (row["choice"] == 1) - 12 * (row["probe"] == "identity")},
    )
    evaluation = experiment.evaluate()
    assert evaluation["sft"]["guards_failed"] == "identity_mention_rate, identity_perplexity, piqa_accuracy"
    assert evaluation["sft"]["guard_checks"]["identity_mention_rate"]["change"]["value"] == -1
    assert evaluation["reference"]["guards"]["piqa_accuracy"] == 1 and evaluation["sft"]["guards"]["piqa_accuracy"] == 0
    assert evaluation["sft"]["verdict"]["outcome"] == "not a win"


def test_a_policy_that_pleases_only_the_reward_scorer_is_flagged(experiment):
    for place in (completions, scores):
        place("dpo").write_bytes(place("reference").read_bytes())
    experiment.alter(scores("dpo"), lambda row: row | {"toxicity": row["toxicity"] * (row["judge"] == "minilm")})
    evaluation = experiment.evaluate()
    gap = evaluation["dpo"]["hacking"]["minilm"]
    assert gap["flagged"] is True and gap["gap"]["low"] > 0
    win(experiment, "sft")
    assert evaluation["dpo"]["judges"]["profanity"]["toxicity_mean"]["value"] == 0
    both = experiment.evaluate()["sft"]["hacking"]["minilm"]
    assert both["relative_gap"]["value"] == pytest.approx(0, abs=1e-6)


def test_expected_maximum_over_all_samples_is_the_expected_maximum_and_over_one_the_mean(experiment):
    judge = experiment.evaluate()["dpo"]["judges"]["minilm"]
    at_k = [judge["emt_at_k"][k]["value"] for k in ("1", "2", "3")]
    assert set(judge["emt_at_k"]) == {"1", "2", "3"}
    assert at_k[0] == judge["toxicity_mean"]["value"] and at_k[2] == judge["expected_max_toxicity"]["value"]
    assert at_k == sorted(at_k)


def test_a_comparison_read_backwards_has_the_other_sign(experiment):
    compared = experiment.evaluate()["comparisons"]
    there, back = compared["sft"]["ppo"], compared["ppo"]["sft"]
    assert there["difference"]["value"] == -back["difference"]["value"]
    assert there["difference"]["low"] == -back["difference"]["high"]
    assert (there["p"], there["p_holm"]) == (back["p"], back["p_holm"])
    assert there["p_holm"] >= there["p"]


def test_the_best_of_one_sample_is_the_reference_and_the_best_of_all_is_better_for_the_judge_that_chose(experiment):
    evaluation = experiment.evaluate()
    chosen, reference = evaluation["baselines"]["best_of_k"], evaluation["reference"]["judges"]
    assert chosen["at_k"]["1"] == reference["minilm"]["toxicity_mean"]
    assert chosen["at_k"]["3"] == chosen["judges"]["minilm"]["toxicity_mean"]
    assert chosen["judges"]["profanity"]["difference"]["toxicity_mean"]["high"] < 0
    rows = read_jsonl(scores("reference"))
    lowest = {row["prompt_id"]: 1.0 for row in rows}
    for row in (row for row in rows if row["judge"] == "profanity"):
        lowest[row["prompt_id"]] = min(lowest[row["prompt_id"]], row["toxicity"])
    assert chosen["judges"]["profanity"]["toxicity_mean"]["value"] == pytest.approx(sum(lowest.values()) / 6, abs=1e-6)
