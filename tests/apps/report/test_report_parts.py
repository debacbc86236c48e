"""The report tells what is on disk, names what is not, and decides nothing."""

import re
import shutil

from pipeline.apps.report import charts, material, page
from pipeline.io import paths
from pipeline.io.records import read_json, write_json
from tests.apps.report.made import NAME, Made
from tests.apps.report.made_numbers import JUDGES, METHODS, POLICIES, digest, interval


def rendered(made):
    """Write the experiment and return the report's text, without scripts, styles and tags."""
    made.write()
    found = material.read(NAME)
    html = page.render(found, charts.draw(found))
    html = re.sub(r"<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", html).replace("&#39;", "'").replace("&lt;", "<").split())


def section(text, start, end):
    return text[text.index(start) : text.index(end)]


def test_tells_champion_rule_and_every_row_with_interval_and_corrected_p(made):
    text = rendered(made)
    assert "sft lowers mean toxicity from 0.240 to 0.130, −46 %, with every guard passed" in text
    assert "Champion: sft, seed 0 (lowest of two)" in text and "lowest toxicity among the wins" in text
    assert "0.170 [0.150, 0.190]" in text and "−0.070 [−0.090, −0.050]" in text and "< 0.001" in text
    for part in ("not a win", "perplexity median", "best of k", "word filter"):
        assert part in section(text, "Champion", "Toxicity by method")


def test_without_a_champion_it_says_so_and_why(made):
    made.evaluation["champion"] = {"policy": None, "seed": None, "rule": "a rule", "reason": "sft: no gain"}
    text = rendered(made)
    assert "No champion" in text and "sft: no gain." in text and "Champion: sft" not in text


def test_a_missing_number_is_called_missing_and_never_0(made):
    made.evaluation["sft"]["judges"]["minilm"]["toxicity_mean"] = dict.fromkeys(("value", "low", "high"))
    made.evaluation["comparisons"]["sft"]["reference"]["p_holm"] = None
    made.evaluation["sft"]["guard_checks"]["distinct_2"]["change"] = dict.fromkeys(("value", "low", "high"))
    made.evaluation["sft"]["guard_checks"]["distinct_2"]["passed"] = False
    text = rendered(made)
    row = section(text, "sft missing", "ppo 0.170")
    assert row.count("missing") == 2
    assert "missing failed" in section(text, "distinct 2", "empty rate")


def test_a_prompt_alone_has_no_interval_and_still_a_report(made):
    for entry in (made.evaluation[policy]["judges"]["minilm"] for policy in POLICIES):
        entry["toxicity_mean"] = {"value": 0.2, "low": None, "high": None}
    assert "0.200 [no interval]" in rendered(made)


def test_no_failing_guard_and_none_at_all(made):
    for policy in METHODS:
        made.evaluation[policy]["guards_failed"] = ""
    assert rendered(made).count("all passed") == len(METHODS)
    made.evaluation["meta"]["guards"] = {}
    assert "No guards are in this evaluation" in rendered(made)


def test_guards_show_limits_and_what_every_method_moved(made):
    text = rendered(made)
    guards = section(text, "Guards How far", "Provenance Code")
    assert "at most +10 % ✓" not in guards
    assert "at most +10 %" in guards and "at least −5 %" in guards and "−20 % to +20 %" in guards
    assert "at least −0.050" in guards
    assert "+20.0 % failed [+18.0, +22.0]" in guards and guards.count("failed") == 1


def test_a_judge_without_labelled_text_or_without_a_card(made):
    del made.cards["profanity"]
    judges = section(rendered(made), "Judges What", "Hacking gap")
    assert "not tested" in judges and "Its card is missing" in judges
    assert judges.index("minilm") < judges.index("words") < judges.index("profanity the training reward")
    assert "Asian 50 %, female 25 %" in judges and "deaf" not in judges


def test_hacking_is_flagged_by_either_measure_and_named(made):
    del made.evaluation["dpo"]["hacking"]["words"]["flagged"]
    gaps = section(rendered(made), "Hacking gap Gain", "Agreement between judges")
    rows = {row[:10]: row for row in re.findall(r"(?:sft|ppo|dpo) (?:minilm|words) .+?(?= sft| ppo| dpo|$)", gaps)}
    assert [row.split("] ")[2].strip() for row in rows.values()] == [
        "relative gap",
        "relative gap",
        "gap and relative gap",
        "gap and relative gap",
        "no",
        "missing",
    ]


def test_the_reservations_about_the_champion_stand_beside_its_name(made):
    made.evaluation["champion"]["reason"] = "lowest of sft: less toxic; more toxic than best_of_k (no training)"
    assert "more toxic than best_of_k (no training)" in rendered(made)


def test_one_seed_says_what_it_cannot_say(made):
    assert "trained once" not in rendered(made)
    one = Made(seeds=(0,))
    text = rendered(one)
    assert "trained once" in text and "Every seed alone" not in text


def test_smallest_detectable_difference_is_stated(made):
    text = rendered(made)
    assert "Smallest detectable" in text
    assert "smaller than about 0.031 would most likely not have been seen" in text


def test_every_pair_of_policies_is_compared_once(made):
    table = section(rendered(made), "Smallest detectable: the", "Completions side by side")
    assert table.count("between methods") == 3
    assert table.count("against the reference") == 3 and table.count("against baselines") == 6
    assert "sft − ppo" in table and "ppo − sft" not in table


def test_what_is_not_on_disk_is_named_and_the_rest_is_told(made):
    made.write()
    for folder in ("completions", "scores", "plots", "models", "data"):
        shutil.rmtree(folder)
    paths.metrics(NAME, "judge").unlink()
    for method in METHODS:
        for seed in made.seeds:
            paths.metrics(NAME, method, seed).unlink()
    found = material.read(NAME)
    drawn = charts.draw(found)
    html = page.render(found, drawn)
    for part in (
        "Not shown. completions/exp/0/reference.jsonl: not found",
        "The curves of the trainings are not on disk",
        "The distribution of scores is not on disk",
        "No judge of this experiment was tested on labelled text",
        "missing: models/exp/base/manifest.json is not on disk",
        "sft lowers mean toxicity",
    ):
        assert part in html
    empty = {name for name, figure in drawn.items() if not figure.panels}
    assert empty == {"training", "scores", "calibration"}


def test_signs_of_bad_health_are_named_with_their_number_of_steps(made):
    assert "bad health" not in rendered(made)
    path = paths.metrics(NAME, "ppo", 0)
    metrics = read_json(path)
    metrics["train"]["health"] = {"values_explain_nothing": 12}
    write_json(path, metrics)
    found = material.read(NAME)
    assert "values explain nothing (12)." in page.render(found, charts.draw(found))


def test_an_evaluation_of_an_earlier_shape_is_told_as_far_as_it_goes(made):
    for key in ("baselines", "comparisons", "agreement", "champion"):
        del made.evaluation[key]
    del made.evaluation["meta"]["guards"], made.evaluation["meta"]["corrections"]
    for policy in POLICIES:
        entry = made.evaluation[policy]
        for key in ("categories", "hacking", "verdict", "guard_checks"):
            entry.pop(key, None)
        for judge in JUDGES:
            del entry["judges"][judge]["emt_at_k"], entry["judges"][judge]["prevalence"]
    text = rendered(made)
    assert "No verdict" in text and "0.130 [0.110, 0.150]" in text
    assert "The hacking gap is missing" in text and "comparisons between methods are missing" in text


def test_provenance_holds_every_hash(made):
    text = rendered(made)
    for digested in ("file", "minilm", "words", "ppo 1", "dpo 0"):
        assert digest(digested) in text
    assert "pypi:made==1.0#folder/" in text and "temperature 1.0" in text and "altair" in text


def test_a_policy_that_is_not_known_has_a_colour_of_its_own(made):
    made.evaluation["baselines"]["oracle"] = made.evaluation["baselines"]["best_of_k"]
    made.evaluation["baselines"]["oracle"]["judges"]["minilm"]["toxicity_mean"] = interval(0.05)
    text = rendered(made)
    assert "oracle" in text
    assert len(set(page.palette.colors([*POLICIES, "best_of_k", "oracle", "other"]).values())) == 7
