"""The comparison table tells the numbers of the evaluation, at any width and as Markdown."""

import io
import json

import pytest
from rich.console import Console

from pipeline.apps import table
from pipeline.io import paths
from pipeline.io.records import write_json


@pytest.fixture
def evaluation(experiment):
    return experiment.evaluate()


def rendered(evaluation, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table.comparison_table(evaluation, "exp"))
    return console.file.getvalue()


def number(text):
    return float(text.split()[0])


@pytest.mark.parametrize("width", [80, 160])
def test_no_interval_is_broken_over_lines(evaluation, width):
    lines = rendered(evaluation, width).splitlines()
    assert max(map(len, lines)) <= width
    for policy in ("sft", "ppo", "dpo"):
        row = next(line for line in lines if line.startswith(f"{policy} "))
        assert row.count("[") == row.count("]") == 2


def test_the_rows_are_the_roster_in_order_with_the_numbers_on_disk(evaluation):
    for sheet in table.sheets(evaluation, wide=False):
        assert all(len(row) == len(sheet.header) for row in sheet.rows)
    toxicity, guards, differences = table.sheets(evaluation, wide=False)
    assert [row[0] for row in toxicity.rows] == ["reference", "sft", "ppo", "dpo", "best_of_k"]
    assert [row[0] for row in guards.rows] == ["reference", "sft", "ppo", "dpo"]
    pairs = {frozenset(row[0].split(" - ")) for row in differences.rows}
    assert len(pairs) == len(differences.rows) == 3 + 3, "each pair of methods once, each method with the baseline"
    judges = evaluation["ppo"]["judges"]
    assert number(toxicity.rows[2][1]) == pytest.approx(judges["minilm"]["toxicity_mean"]["value"], abs=5.1e-4)
    assert number(toxicity.rows[2][5]) == pytest.approx(judges["profanity"]["toxicity_mean"]["value"], abs=5.1e-4)
    assert toxicity.rows[0][2] == ""
    column = guards.header.index("perplexity\nmedian")
    assert number(guards.rows[2][column]) == pytest.approx(evaluation["ppo"]["guards"]["perplexity_median"], abs=0.051)


def test_names_what_was_compared_and_how(evaluation):
    text = " ".join(rendered(evaluation, 80).split())
    assert "exp: 6 prompts, k = 3" in text and "judge minilm" in text
    assert "95% bootstrap interval, clustered by prompt" in text
    assert "minilm is held out" in text and "The reward scorer, profanity" in text


def test_a_failed_guard_and_a_missing_number_are_shown(evaluation):
    evaluation["sft"] |= {"guards_passed": False, "guards_failed": "perplexity_median, distinct_2"}
    evaluation["sft"]["guards"]["perplexity_median"] = None
    guards = table.sheets(evaluation, wide=False)[1]
    row = guards.rows[1]
    assert row[-2:] == ("perplexity median, distinct 2", evaluation["sft"]["verdict"]["outcome"])
    assert row[guards.header.index("perplexity\nmedian")].startswith("missing")


def test_the_wide_table_tells_mean_deviation_and_change_before_and_after(evaluation):
    found = evaluation["ppo"]["before_after"]["profanity"] = {
        "toxicity_mean": 0.1,
        "toxicity_sd": 0.25,
        "change_percent": {"value": -50.0, "low": -60.04, "high": None},
    }
    evaluation["reference"]["before_after"]["profanity"] = {"toxicity_mean": 0.2, "toxicity_sd": None}
    row = ("ppo", "profanity", "0.200 (missing)", "0.100 (0.250)", "-50.0% [-60.0%, missing]")
    assert row in table.sheets(evaluation, wide=True)[1].rows
    found["change_percent"]["value"] = None
    assert (*row[:-1], "missing") in table.sheets(evaluation, wide=True)[1].rows
    for policy in evaluation["meta"]["policies"]:
        del evaluation[policy]["before_after"]  # an evaluation of an earlier version
    assert len(table.sheets(evaluation, wide=True)) == 3


def test_says_under_which_model_perplexity_is_measured(evaluation):
    assert "perplexity: median under the base model" in table.footnote(evaluation)
    evaluation["meta"]["perplexity_model"] = "fluency"
    assert "under a causal model that is no policy" in table.footnote(evaluation)


def test_the_champion_is_named_with_the_rule_or_its_absence_with_the_reason(evaluation):
    evaluation["champion"] = {"policy": "dpo", "seed": 0, "rule": "the rule", "reason": "lowest of sft, dpo"}
    assert table.conclusion(evaluation) == "Champion: dpo, lowest of sft, dpo. Rule: the rule"
    evaluation["champion"] = {"policy": None, "seed": None, "rule": "the rule", "reason": "sft: no less toxic"}
    assert table.conclusion(evaluation) == "No champion. sft: no less toxic"
    assert table.conclusion(evaluation) in table.markdown(evaluation, "exp")


def test_markdown_has_a_cell_for_every_column(evaluation):
    text = table.markdown(evaluation, "exp")
    groups = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert [len(group) for group in groups] == [2 + 5, 2 + 3 * 2, 2 + 4, 2 + 6]
    for group in groups:
        assert len({line.count("|") for line in group}) == 1
    assert "\n\n| policy |" in text


def test_the_command_prints_both_forms(evaluation, capsys):
    table.main(["exp"])
    assert "reference" in capsys.readouterr().out
    table.main(["exp", "--markdown"])
    assert capsys.readouterr().out.strip() == table.markdown(evaluation, "exp")


def test_an_absent_or_foreign_evaluation_is_one_message_and_exit_code_2(evaluation, capsys):
    path = paths.metrics("exp", "evaluation")
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"schema_version": 2})
    for name, expected in (("exp", "schema_version: expected 1, got 2"), ("other", "not found")):
        with pytest.raises(SystemExit) as ended:
            table.main([name])
        assert ended.value.code == 2
        assert expected in capsys.readouterr().err
