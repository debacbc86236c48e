"""The CSV files for `dvc plots` say what the scores and the evaluation say."""

import csv

import numpy as np
import pytest

from pipeline.evaluation import toxicity
from pipeline.evaluation.judged import read
from pipeline.evaluation.plots import write_plots
from pipeline.io import paths
from tests.apps.report.made import NAME, Made
from tests.apps.report.made_numbers import BASELINES, CATEGORIES, JUDGES, POLICIES

FILES = ("evaluation", "pareto", "categories", "scores", "prompts")


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Made().write()


def judged(made):
    return read(NAME, made.seeds, POLICIES, list(JUDGES), made.samples)


def rows(name):
    with paths.plot(NAME, name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def of(found, **wanted):
    return [row for row in found if all(row[key] == str(value) for key, value in wanted.items())]


def test_writes_every_file_the_same_again(made):
    write_plots(NAME, judged(made), made.evaluation)
    first = {name: paths.plot(NAME, name).read_bytes() for name in FILES}
    write_plots(NAME, judged(made), made.evaluation)
    assert {name: paths.plot(NAME, name).read_bytes() for name in FILES} == first


def test_evaluation_has_a_row_a_policy_and_judge_with_intervals(made):
    write_plots(NAME, judged(made), made.evaluation)
    found = rows("evaluation")
    assert [row["judged"] for row in found] == [f"{policy} by {judge}" for judge in JUDGES for policy in POLICIES]
    row = of(found, policy="ppo", judge="minilm")[0]
    expected = made.evaluation["ppo"]["judges"]["minilm"]["toxic_fraction"]
    ends = {"toxic_fraction": "value", "toxic_fraction_low": "low", "toxic_fraction_high": "high"}
    assert {key: float(row[key]) for key in ends} == pytest.approx({key: expected[end] for key, end in ends.items()})


def test_pareto_and_categories_hold_policies_and_what_trains_nothing(made):
    write_plots(NAME, judged(made), made.evaluation)
    assert [row["policy"] for row in rows("pareto")] == [*POLICIES, *BASELINES]
    assert float(of(rows("pareto"), policy="best_of_k")[0]["perplexity_median"]) == 16.0
    assert [(row["policy"], row["category"]) for row in rows("categories")] == [
        (policy, category) for policy in POLICIES for category in CATEGORIES
    ]


def test_a_missing_number_is_an_empty_field(made):
    made.evaluation["sft"]["guards"]["perplexity_median"] = None
    made.evaluation["sft"]["categories"]["insult"]["toxicity_mean"] = dict.fromkeys(("value", "low", "high"))
    write_plots(NAME, judged(made), made.evaluation)
    assert of(rows("pareto"), policy="sft")[0]["perplexity_median"] == ""
    row = of(rows("categories"), policy="sft", category="insult")[0]
    assert (row["toxicity_mean"], row["low"], row["high"]) == ("", "", "")


def test_shares_of_bins_sum_to_one_and_agree_with_the_toxic_fraction(made):
    found = judged(made)
    found.toxicities["ppo"]["minilm"][0, 0, :2] = np.nan
    write_plots(NAME, found, made.evaluation)
    for policy in POLICIES:
        for judge in JUDGES:
            bins = of(rows("scores"), policy=policy, judge=judge)
            assert sum(float(row["share"]) for row in bins) == pytest.approx(1, abs=1e-5)
            scores = found.toxicities[policy][judge]
            above = sum(float(row["share"]) for row in bins if float(row["bin"]) >= 0.5)
            assert above == pytest.approx(np.mean(scores[~np.isnan(scores)] >= 0.5), abs=1e-5)


@pytest.mark.parametrize(("score", "place"), [(0.0, 0.0), (0.05, 0.05), (0.149999, 0.1), (0.15, 0.15), (1.0, 0.95)])
def test_a_score_at_an_edge_is_in_the_bin_that_begins_there_and_1_is_in_the_last(made, score, place):
    found = judged(made)
    found.toxicities["sft"]["minilm"][:] = score
    write_plots(NAME, found, made.evaluation)
    full = [row for row in of(rows("scores"), policy="sft", judge="minilm") if float(row["share"]) > 0]
    assert [(float(row["bin"]), float(row["share"])) for row in full] == [(place, 1.0)]


def test_a_judge_that_scored_nothing_has_no_shares(made):
    found = judged(made)
    found.toxicities["sft"]["words"][:] = np.nan
    write_plots(NAME, found, made.evaluation)
    assert {row["share"] for row in of(rows("scores"), policy="sft", judge="words")} == {""}


def test_prompts_hold_one_row_each_and_average_to_the_mean(made):
    found = judged(made)
    found.toxicities["dpo"]["minilm"][2, 1, :] = np.nan
    write_plots(NAME, found, made.evaluation)
    table = rows("prompts")
    keys = {(row["prompt_id"], row["seed"], row["policy"], row["judge"]) for row in table}
    assert len(table) == len(keys) == made.prompts * len(made.seeds) * len(POLICIES) * len(JUDGES)
    assert of(table, prompt_id="p2", seed=1, policy="dpo", judge="minilm")[0]["toxicity_mean"] == ""
    values = [float(row["toxicity_mean"]) for row in of(table, policy="sft", judge="minilm")]
    statistics = toxicity.prompt_statistics(found.toxicities["sft"]["minilm"], 0.5)
    assert np.mean(values) == pytest.approx(statistics["toxicity_mean"].mean(), abs=1e-6)
