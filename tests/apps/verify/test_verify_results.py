"""`make verify` computes the results again from what is stored, with the functions of the stage `evaluate`."""

import json
import re

import pytest

from pipeline.apps.verify import results
from stages import evaluate

SCORES = "scores/smoke/0/ppo.jsonl"
METRICS = "metrics/smoke/evaluation.json"


def test_the_sections_are_those_of_the_stage():
    assert results.SECTIONS == evaluate.NODE.sections


def test_an_edited_score_gives_other_results(recorded, capsys):
    rows = [json.loads(line) for line in (recorded.root / SCORES).read_text().splitlines()]
    rows[0]["toxicity"] = 1.0 - rows[0]["toxicity"]
    (recorded.root / SCORES).write_text("".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.faulty() == {"outputs", "inputs", "metrics"}
    told = verdict.fault(METRICS)
    assert re.search(r"expected agreement\.\S+ \S+, .*; found agreement\.\S+ \S+, .* and \d+ more\n", told)
    assert told.endswith("`dvc repro evaluate@smoke`")


def test_an_edited_result_is_named_by_its_key_with_both_values(recorded, capsys):
    evaluation = recorded.load(METRICS)
    true = evaluation["ppo"]["judges"]["letter"]["toxicity_mean"]["value"]
    evaluation["ppo"]["judges"]["letter"]["toxicity_mean"]["value"] = 0.012345
    (recorded.root / METRICS).write_text(json.dumps(evaluation, indent=2, sort_keys=True) + "\n")
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.faulty() == {"outputs", "metrics"}
    key = "ppo.judges.letter.toxicity_mean.value"
    assert f"expected {key} {true}; found {key} 0.012345" in verdict.printed
    assert f"remove it, then `git checkout -- {METRICS}`" in verdict.printed
    recorded.git("checkout", "--", METRICS)
    assert recorded.verify(capsys).code == 0


def test_an_edited_result_is_found_although_the_lock_was_made_to_agree(recorded, capsys):
    recorded.replace("plots/smoke/pareto.csv", "reference", "Reference")
    recorded.dvc("commit", "--force")
    verdict = recorded.verify(capsys)
    assert verdict.faulty() == {"lock", "metrics"}
    assert "line 2.policy reference; found line 2.policy Reference" in verdict.fault("plots/smoke/pareto.csv")


def test_other_bytes_with_the_same_values_are_different_too(recorded, capsys):
    evaluation = recorded.load(METRICS)
    (recorded.root / METRICS).write_text(json.dumps(evaluation, sort_keys=True))
    assert "of another form" in recorded.verify(capsys).printed


def test_scores_that_evaluate_would_refuse_are_a_difference_with_its_message(recorded, capsys):
    with (recorded.root / SCORES).open("a") as file:
        file.write("{}\n")
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert f"found {SCORES}:" in verdict.printed


@pytest.mark.parametrize("field", ["uri", "sha256"])
def test_a_manifest_of_another_source_than_the_pinned_is_different(field, recorded, capsys):
    path = "models/smoke/base/manifest.json"
    manifest = recorded.load(path)
    if field == "uri":
        manifest["model"]["uri"] = "file:elsewhere"
    else:
        manifest["model"]["sha256"]["config.json"] = "0" * 64
    (recorded.root / path).write_text(json.dumps(manifest))
    verdict = recorded.verify(capsys)
    assert verdict.faulty() == {"outputs", "sources"}
    thing = f"{path}: model" if field == "uri" else f"{path}: model: config.json"
    assert ("file:elsewhere" if field == "uri" else "0" * 64) in verdict.fault(thing)


def test_a_broken_manifest_is_a_difference(recorded, capsys):
    (recorded.root / "data/smoke/raw/manifest.json").write_text("{")
    assert "sources" in recorded.verify(capsys).faulty()
