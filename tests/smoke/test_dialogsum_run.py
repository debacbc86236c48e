"""What is true of the FLAN-T5 experiment alone, of one real run of it on tiny parts."""

import json
from contextlib import chdir
from typing import Any

import pytest

from pipeline.io import paths
from tests.smoke.conftest import WholeRun
from tests.smoke.dialogsum import EXPERIMENT, REFERENCES, ROWS
from tests.smoke.workspace import sha256
from tests.sources.checkpoints.flan_t5 import CONFIG

pytestmark = pytest.mark.slow


def rows(run: WholeRun, split: str) -> list[dict[str, Any]]:
    text = (run.workspace.root / paths.formatted(EXPERIMENT, split)).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_splits_are_the_data_sets_own_with_all_its_summaries(dialogsum_run: WholeRun) -> None:
    train, dev, judged = (rows(dialogsum_run, split) for split in ("train", "dev", "eval"))
    assert [len(split) for split in (train, dev, judged)] == list(ROWS.values())
    assert {len(row["demonstrations"]) for row in (*train, *dev)} == {1}
    assert {len(row["demonstrations"]) for row in judged} == {REFERENCES}


def test_every_prompt_is_a_dialogue_within_the_instruction(dialogsum_run: WholeRun) -> None:
    parameters = dialogsum_run.workspace.load(str(paths.experiment_file(EXPERIMENT)))
    before, after = parameters["data"]["instruction"].split("{dialogue}")
    for row in (row for split in ("train", "dev", "eval") for row in rows(dialogsum_run, split)):
        assert row["prompt"].startswith(before + "#Person1#: ") and row["prompt"].endswith(after)


def test_the_base_is_the_checkpoint_that_the_hub_served(dialogsum_run: WholeRun) -> None:
    root = dialogsum_run.workspace.root
    parameters = dialogsum_run.workspace.load(str(paths.experiment_file(EXPERIMENT)))
    for file, pin in parameters["model"]["source"]["sha256"].items():
        assert sha256(root / paths.base_model(EXPERIMENT) / file) == pin


def test_the_reference_is_a_task_adapter_as_the_experiment_says(dialogsum_run: WholeRun) -> None:
    folder = dialogsum_run.workspace.root / paths.adapter(EXPERIMENT, 0, "reference")
    parameters = dialogsum_run.workspace.load(str(paths.experiment_file(EXPERIMENT)))
    assert json.loads((folder / "manifest.json").read_text())["kind"] == "adapter"
    adapter = json.loads((folder / "adapter_config.json").read_text())
    lora = parameters["reference"]["lora"]
    assert (adapter["r"], adapter["lora_alpha"]) == (lora["r"], lora["alpha"]) == (32, 32)
    assert sorted(adapter["target_modules"]) == sorted(lora["target_modules"]) == ["q", "v"]


def test_the_score_of_ppo_is_the_label_s_own_logit(dialogsum_run: WholeRun) -> None:
    from pipeline.config.loader import load
    from pipeline.scorers.loading import load_reward

    texts = ["You are a kind person.", "You are a rotten person."]
    with chdir(dialogsum_run.workspace.root):
        reward = load_reward(load(EXPERIMENT, ("reward",)).reward, EXPERIMENT)
        scores = reward.scores(["a dialogue", "a dialogue"], texts)
        logits = reward.scorer.logits(texts)  # type: ignore[attr-defined]
        toxicity = reward.scorer.score(texts)
    assert scores == pytest.approx(logits[:, 0].tolist(), abs=1e-5)  # nothate is the first label
    assert toxicity[0] < toxicity[1] and scores[0] > scores[1]


def test_perplexity_is_that_of_another_model(dialogsum_run: WholeRun) -> None:
    """A T5 has no likelihood of a text alone."""
    held = json.loads((dialogsum_run.workspace.root / paths.fluency(EXPERIMENT) / "config.json").read_text())
    assert held["model_type"] == "llama" and CONFIG["model_type"] == "t5"
    meta = dialogsum_run.workspace.load(str(paths.metrics(EXPERIMENT, "evaluation")))["meta"]
    assert meta["perplexity_model"] == "fluency"
