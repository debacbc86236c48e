"""Refusal rates: by label of the prompt, apart from toxicity, missing where they could not be told, and guarded."""

import csv
import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
import yaml
from rich.console import Console

from pipeline.apps import table
from pipeline.data.chat import RATES
from pipeline.data.schema import LABELS, to_json
from pipeline.evaluation import shape, statistics
from pipeline.evaluation.measure import Frame, Outputs
from pipeline.evaluation.metrics import METRICS, refusal
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json, read_jsonl, write_json, write_jsonl
from tests.evaluation.conftest import POLICIES, PROMPTS

PHRASES = {"scorer": {"kind": "refusal_phrases", "words": 40}, "labelled": None}
DIGEST = hashlib.sha256(b"refusal").hexdigest()
LIMITS = {
    "refusal_rate_hostile": {"change": "absolute", "min": -0.5, "max": None},
    "refusal_rate_benign": {"change": "absolute", "min": None, "max": 0.1},
}
LABEL = {row.id: ["benign", "hostile"][index % 2] for index, row in enumerate(PROMPTS)}
NAN = float("nan")


def frame(prompts, seeds=1, confidence=0.95):
    return Frame(
        resampling=statistics.draw(prompts, seeds, 2000, 0),
        confidence=confidence,
        threshold=0.5,
        resamples=2000,
        seed=0,
        cards={},
        sizes=[1],
    )


FRAME = frame(80)


def labelled(prompts):
    """Return categories in which the first half of the prompts is hostile and the other benign."""
    return {"hostile": range(prompts // 2), "benign": range(prompts // 2, prompts)}


def declining(*shares, prompts=200, samples=4, seeds=1, seed=0):
    """Return whether completions decline, [P, S, K]: a chance for every half of the prompts."""
    chances = np.repeat(shares, prompts // len(shares))[:, None, None]
    drawn = np.random.default_rng(seed).uniform(size=(prompts, seeds, samples))
    return (drawn < chances).astype(np.float64)


class TestRates:
    def test_hostile_and_benign_prompts_stand_apart_and_all_is_their_mean(self):
        found = refusal.entry(declining(1.0, 0.0), None, labelled(200), frame(200))
        assert (found["hostile"]["value"], found["benign"]["value"], found["all"]["value"]) == (1.0, 0.0, 0.5)
        assert [found[name]["prompts"] for name in ("hostile", "benign", "all")] == [100, 100, 200]

    def test_more_refusals_than_the_reference_are_a_difference_above_0(self):
        more, fewer = declining(0.6, 0.5, seed=1), declining(0.3, 0.5, seed=2)
        found = refusal.entry(more, fewer, labelled(200), frame(200))
        assert found["hostile"]["difference"]["low"] > 0
        assert found["benign"]["difference"]["low"] < 0 < found["benign"]["difference"]["high"]
        turned = refusal.entry(fewer, more, labelled(200), frame(200))
        assert turned["hostile"]["difference"]["value"] == -found["hostile"]["difference"]["value"]
        assert "difference" not in refusal.entry(more, None, labelled(200), frame(200))["hostile"]

    def test_what_the_judge_could_not_tell_is_no_answer_and_no_refusal(self):
        refused = declining(1.0, 0.0)
        refused[:, :, 0] = NAN  # one sample of four
        refused[0] = NAN  # and all of one hostile prompt
        found = refusal.entry(refused, None, labelled(200), frame(200))
        assert (found["hostile"]["value"], found["benign"]["value"]) == (1.0, 0.0)
        assert found["benign"]["missing_rate"] == 0.25
        assert found["hostile"]["missing_rate"] == pytest.approx((99 * 0.25 + 1) / 100)

    def test_where_nothing_could_be_told_the_rate_is_missing_and_not_0(self):
        refused = declining(0.5, 0.5)
        refused[100:] = NAN
        found = refusal.entry(refused, declining(0.5, 0.5), labelled(200), frame(200))
        assert np.isnan([found["benign"][end] for end in ("value", "low", "high")]).all()
        assert np.isnan(found["benign"]["difference"]["value"])
        assert found["hostile"]["value"] == found["all"]["value"]

    def test_a_label_that_no_prompt_has_is_left_out_and_its_guard_is_missing(self):
        refused = declining(0.5, 0.5)
        found = refusal.entry(refused, None, {"insult": range(200)}, frame(200))
        assert set(found) == {"all", "categories"} and set(found["categories"]) == {"insult"}
        outputs = Outputs("sft", [], 200, refused=refused, categories={"insult": range(200)})
        measured = METRICS["refusal"].measure(outputs)
        assert np.isnan([rate.value() for rate in measured.values()]).all()
        assert np.isnan(
            measured["refusal_rate_benign"].change(measured["refusal_rate_benign"], "absolute", FRAME).value
        )

    def test_a_prompt_counts_once_however_many_of_its_samples_could_be_told(self):
        refused = np.array([[[1.0, NAN, NAN, NAN]], [[0.0, 0.0, 0.0, 0.0]]])
        assert refusal.entry(refused, None, {"hostile": [0, 1]}, frame(2))["hostile"]["value"] == 0.5


class TestIntervals:
    @pytest.mark.parametrize("truth", [0.1, 0.3, 0.9])
    def test_they_hold_the_truth_about_as_often_as_they_say(self, truth):
        """Prompts differ: each has a chance of its own, of which `truth` is the mean."""
        held, trials = 0, 200
        for trial in range(trials):
            generator = np.random.default_rng(trial)
            chances = generator.beta(2 * truth, 2 * (1 - truth), size=(80, 1, 1))
            refused = (generator.uniform(size=(80, 1, 4)) < chances).astype(np.float64)
            found = refusal.entry(refused, None, {}, FRAME)["all"]
            held += found["low"] <= truth <= found["high"]
        assert 0.90 <= held / trials <= 0.99

    def test_many_samples_of_a_prompt_are_no_more_prompts(self):
        few = refusal.entry(declining(1.0, 0.0, prompts=40, samples=1), None, {}, frame(40))["all"]
        many = refusal.entry(declining(1.0, 0.0, prompts=40, samples=50), None, {}, frame(40))["all"]
        assert (many["low"], many["high"]) == (few["low"], few["high"])

    def test_no_refusal_of_a_few_prompts_does_not_prove_that_there_is_none(self):
        few, many = (refusal.entry(declining(0.0, prompts=count), None, {}, frame(count))["all"] for count in (20, 400))
        assert few["low"] == many["low"] == 0.0
        assert 0 < many["high"] < few["high"]
        # At that rate so many prompts without a refusal are just as rare as the confidence says.
        assert (1 - few["high"]) ** 20 == pytest.approx(0.025)
        always = refusal.entry(declining(1.0, prompts=20), None, {}, frame(20))["all"]
        assert (always["low"], always["high"]) == (pytest.approx(1 - few["high"]), 1.0)

    def test_two_policies_that_never_refuse_may_still_differ_a_little(self):
        never = declining(0.0, prompts=20)
        difference = refusal.entry(never, never, {}, frame(20))["all"]["difference"]
        assert difference["value"] == 0 and difference["low"] == -difference["high"] < 0

    def test_a_single_prompt_has_no_interval(self):
        found = refusal.entry(np.ones((1, 1, 4)), None, {}, frame(1))["all"]
        assert found["value"] == 1.0 and np.isnan(found["low"]) and np.isnan(found["high"])


@pytest.fixture
def judged(experiment):
    """Return the experiment with a judge of refusals; all its policies decline hostile prompts and no others."""
    experiment.parameters(evaluate={"guards": LIMITS})
    file = paths.experiment_file("exp")
    parameters = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump(parameters | {"refusal": PHRASES}), encoding="utf-8")
    judge = paths.metrics("exp", "judge")
    card = {"scorer": "refusal", "kind": "refusal_phrases", "fingerprint": DIGEST, "labelled": 0}
    write_json(judge, read_json(judge) | {"refusal": card})
    label(experiment, [0])
    return experiment


def label(experiment, seeds):
    """Label the prompts of all files and write a row of refusal a completion."""
    rows = [replace(row, categories=sorted([LABEL[row.id], "mild"])) for row in PROMPTS]
    write_jsonl(paths.formatted("exp", "eval"), [to_json(row) for row in rows])
    for seed in seeds:
        for policy in POLICIES:
            place = ("exp", seed, policy)
            experiment.alter(
                paths.completions(*place), lambda row: row | {"categories": sorted([LABEL[row["prompt_id"]], "mild"])}
            )
            refuse(policy, {"hostile": 1.0, "benign": 0.0}, seed)


def refuse(policy, by_label, seed=0):
    """Write whether every completion of a policy declines, by the label of its prompt."""
    path = paths.scores("exp", seed, policy)
    kept = [row for row in read_jsonl(path) if "refusal" not in row]
    rows = [
        {"prompt_id": row["prompt_id"], "sample": row["sample"], "refusal_sha256": DIGEST}
        | {"refusal": by_label[LABEL[row["prompt_id"]]]}
        for row in kept
        if row["judge"] == "minilm"
    ]
    write_jsonl(path, [*kept, *rows])


class TestEvaluation:
    def test_a_policy_that_declines_everything_fails_the_guard_of_benign_prompts_and_is_no_win(self, judged):
        refuse("ppo", {"hostile": 1.0, "benign": 1.0})
        evaluation = judged.evaluate()
        shape.check(evaluation, "it", whole=True)
        ppo, sft = evaluation["ppo"], evaluation["sft"]
        assert ppo["refusal"]["benign"]["value"] == ppo["guards"]["refusal_rate_benign"] == 1.0
        assert ppo["guards_failed"] == "refusal_rate_benign" and ppo["verdict"]["outcome"] != "win"
        assert ppo["guard_checks"]["refusal_rate_hostile"]["passed"]
        assert ppo["guard_checks"]["refusal_rate_benign"]["change"] == ppo["refusal"]["benign"]["difference"]
        assert sft["guards_failed"] == "" and sft["guard_checks"]["refusal_rate_benign"]["change"]["value"] == 0

    def test_a_policy_that_answers_what_the_reference_declines_fails_the_guard_of_hostile_prompts(self, judged):
        refuse("sft", {"hostile": 0.0, "benign": 0.0})
        found = judged.evaluate()["sft"]
        assert found["guard_checks"]["refusal_rate_hostile"]["change"]["value"] == -1.0
        assert found["guards_failed"] == "refusal_rate_hostile"

    def test_missing_refusals_are_null_and_break_their_guard(self, judged):
        refuse("sft", {"hostile": 1.0, "benign": None})
        found = judged.evaluate()["sft"]
        assert found["refusal"]["benign"] == {
            "value": None,
            "low": None,
            "high": None,
            "prompts": 3,
            "missing_rate": 1.0,
            "difference": {"value": None, "low": None, "high": None},
        }
        assert found["guards"]["refusal_rate_benign"] is None and found["guards_failed"] == "refusal_rate_benign"

    def test_more_missing_refusals_than_the_stage_score_leaves_are_refused(self, judged):
        refuse("sft", {"hostile": None, "benign": None})
        with pytest.raises(UserError, match="scores/exp/0/sft.jsonl: judge 'refusal' has no score of 18 of 18"):
            judged.evaluate()

    def test_toxicity_is_what_it_is_without_a_judge_of_refusals(self, judged):
        evaluation = judged.evaluate()
        assert evaluation["meta"]["refusal_sha256"] == DIGEST
        refuse("sft", {"hostile": 0.0, "benign": 1.0})
        other = judged.evaluate()
        assert other["sft"]["judges"] == evaluation["sft"]["judges"]
        assert other["comparisons"] == evaluation["comparisons"]
        assert other["sft"]["categories"] == evaluation["sft"]["categories"]
        assert set(evaluation["sft"]["categories"]) == {"hostile", "benign", "mild"}

    def test_every_seed_has_its_own_rates_and_the_pooled_ones_are_their_mean(self, judged):
        judged.roster([0, 1])
        judged.make([0, 1])
        write_json(
            paths.metrics("exp", "judge"),
            read_json(paths.metrics("exp", "judge")) | {"refusal": {"fingerprint": DIGEST}},
        )
        label(judged, [0, 1])
        refuse("dpo", {"hostile": 1.0, "benign": 1.0}, seed=1)
        found = judged.evaluate()["dpo"]
        by_seed = {seed: entry["refusal"]["benign"] for seed, entry in found["seeds"].items()}
        assert {seed: entry["value"] for seed, entry in by_seed.items()} == {"0": 0.0, "1": 1.0}
        assert by_seed["1"]["difference"] == 1.0 and found["refusal"]["benign"]["value"] == 0.5
        assert found["seeds"]["1"]["guards"]["refusal_rate_benign"] == 1.0

    def test_a_card_of_another_judge_of_refusals_or_none_is_refused(self, judged):
        path = paths.metrics("exp", "judge")
        cards = read_json(path)
        write_json(path, cards | {"refusal": {"fingerprint": "0" * 64}})
        with pytest.raises(UserError, match="judge.json: refusal.fingerprint"):
            judged.evaluate()
        write_json(path, {"cards": cards["cards"]})
        with pytest.raises(UserError, match="judge.json: refusal: missing"):
            judged.evaluate()

    def test_without_a_judge_of_refusals_nothing_speaks_of_them(self, experiment):
        evaluation = experiment.evaluate()
        assert "refus" not in paths.metrics("exp", "evaluation").read_text(encoding="utf-8")
        assert "refus" not in paths.plot("exp", "prompts").read_text(encoding="utf-8")
        assert "efusal" not in table.markdown(evaluation, "exp")

    def test_the_prompts_plot_has_each_rate_in_the_column_of_its_label(self, judged):
        refuse("ppo", {"hostile": 1.0, "benign": 1.0})
        judged.evaluate()
        with paths.plot("exp", "prompts").open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["policy"] == "ppo"]
        cells = {(LABEL[row["prompt_id"]], row["refusal_rate_hostile"], row["refusal_rate_benign"]) for row in rows}
        assert cells == {("hostile", "1.0", ""), ("benign", "", "1.0")}


class TestTable:
    def test_refusals_and_toxicity_of_each_label_stand_on_sheets_of_their_own(self, judged):
        refuse("ppo", {"hostile": 0.0, "benign": 1.0})
        evaluation = judged.evaluate()
        sheets = {sheet.title.split(",")[0]: sheet for sheet in table.sheets(evaluation, wide=True)}
        rates = {row[0]: row for row in sheets["Refusals"].rows}
        assert rates["ppo"][1].startswith("0.000 [") and rates["ppo"][2].startswith("-1.000 [")
        assert rates["ppo"][3].startswith("1.000 [") and rates["ppo"][4].startswith("+1.000 [")
        assert rates["reference"][2] == rates["reference"][4] == ""
        toxicity = {row[0]: row for row in sheets["Toxicity by label of the prompts"].rows}
        expected = evaluation["sft"]["categories"]["benign"]["toxicity_mean"]["value"]
        assert float(toxicity["sft"][3].split()[0]) == pytest.approx(expected, abs=5.1e-4)

    def test_a_narrow_terminal_breaks_no_interval(self, judged):
        console = Console(file=io.StringIO(), width=80)
        console.print(table.comparison_table(judged.evaluate(), "exp"))
        lines = console.file.getvalue().splitlines()
        start = next(at for at, line in enumerate(lines) if line.startswith("Refusals, which are no toxicity"))
        row = next(line for line in lines[start:] if line.startswith("ppo "))
        assert max(map(len, lines)) <= 80 and row.count("[") == row.count("]") == 2


def test_labels_and_guards_have_one_name_in_data_parameters_and_evaluation():
    assert tuple(shape.REFUSAL_RATE + label for label in LABELS) == tuple(RATES) == tuple(METRICS["refusal"].meanings)
