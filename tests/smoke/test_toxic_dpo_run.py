"""What is true of the TinyLlama experiment, of one real run of it on tiny parts in their true layouts."""

import json
from contextlib import chdir
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from pipeline.io import paths
from pipeline.io.hashing import file_digest
from tests.smoke import store
from tests.smoke.conftest import WholeRun
from tests.smoke.toxic_dpo import EXPERIMENT, pairs, parquet
from tests.smoke.workspace import DVC, POLICIES, executed, sha256, stages

METHODS = POLICIES[1:]
pytestmark = pytest.mark.slow


def lines(run: WholeRun, path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.workspace.root / path).read_text(encoding="utf-8").splitlines()]


def evaluated(run: WholeRun) -> Any:
    return run.workspace.load(str(paths.metrics(EXPERIMENT, "evaluation")))


def parameters(run: WholeRun) -> Any:
    return run.workspace.load(str(paths.experiment_file(EXPERIMENT)))


def tokenizer(run: WholeRun) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(run.workspace.root / paths.base_model(EXPERIMENT))


def in_the_template(run: WholeRun, message: str) -> list[int]:
    """Return what Transformers itself makes of one message of a user."""
    told = tokenizer(run).apply_chat_template([{"role": "user", "content": message}], add_generation_prompt=True)
    return list(told["input_ids"])


def test_every_stage_ran_once_and_a_second_repro_runs_nothing(toxic_dpo_run: WholeRun) -> None:
    run = toxic_dpo_run
    assert sorted(run.executed) == sorted(stages(experiment=EXPERIMENT))
    before = run.workspace.outputs()
    assert executed(run.workspace.dvc("repro")) == []
    assert run.workspace.outputs() == before
    assert json.loads(run.workspace.dvc("status", "--json")) == {}
    assert run.workspace.git("status", "--porcelain") == ""


def test_the_base_is_the_checkpoint_that_the_hub_served(toxic_dpo_run: WholeRun) -> None:
    folder = toxic_dpo_run.workspace.root / paths.base_model(EXPERIMENT)
    for file, pin in parameters(toxic_dpo_run)["model"]["source"]["sha256"].items():
        assert sha256(folder / file) == pin


def test_the_data_set_is_read_as_the_hub_has_it(toxic_dpo_run: WholeRun) -> None:
    import pyarrow.parquet

    held = pyarrow.parquet.read_table(BytesIO(parquet(pairs()))).to_pylist()
    rows = {row["prompt"]: row for row in lines(toxic_dpo_run, paths.formatted(EXPERIMENT, "train"))}
    assert {row["prompt"]: (row["chosen"], row["rejected"]) for row in held} == {
        prompt: (row["chosen"], row["rejected"]) for prompt, row in rows.items()
    }


def test_prompts_of_pairs_are_trained_on_and_those_of_lists_are_judged(toxic_dpo_run: WholeRun) -> None:
    told = {split: lines(toxic_dpo_run, paths.formatted(EXPERIMENT, split)) for split in ("train", "dev", "eval")}
    assert {row["prompt"] for row in told["train"]} == {row["prompt"] for row in pairs()}
    for split in ("dev", "eval"):
        labels = [label for row in told[split] for label in ("hostile", "benign") if label in row["categories"]]
        assert set(labels) == {"hostile", "benign"} and len(labels) == len(told[split])


def test_the_refusal_is_what_is_chosen_though_the_data_set_calls_it_rejected(toxic_dpo_run: WholeRun) -> None:
    from pipeline.preferences.pairs import pairs_of, read_samples

    with chdir(toxic_dpo_run.workspace.root):
        made = {pair.prompt: pair for pair in pairs_of(read_samples(paths.preferences(EXPERIMENT, 0)))}
    assert len(made) == len(pairs())
    for row in pairs():
        pair = made[row["prompt"]]
        assert (pair.chosen, pair.rejected) == (row["rejected"], row["chosen"])
    counts = toxic_dpo_run.workspace.load(str(paths.metrics(EXPERIMENT, "preferences", 0)))
    assert (counts["polarity"], counts["polarity_override"]) == ("swapped", None)
    lint = counts["lint"]
    assert (lint["verdict"], lint["decided"]) == ("agrees", len(made))
    assert lint["chosen_worse"]["value"] == 0 and lint["rejected"]["refusal_rate"] == 0
    assert lint["chosen"]["toxicity_mean"] < lint["rejected"]["toxicity_mean"]


def test_prompts_are_the_template_s_tokens_in_training_and_in_evaluation(toxic_dpo_run: WholeRun) -> None:
    from pipeline.config.loader import load
    from pipeline.data.schema import read_prompts
    from pipeline.policy.loading import load_tokenizer
    from pipeline.policy.prompts import tokenize_prompts
    from pipeline.preferences.pairs import pairs_of, read_samples

    with chdir(toxic_dpo_run.workspace.root):
        trained = {
            pair.prompt: list(pair.prompt_ids) for pair in pairs_of(read_samples(paths.preferences(EXPERIMENT, 0)))
        }
        settings, judged = load(EXPERIMENT, ("model",)), paths.formatted(EXPERIMENT, "eval")
        asked = tokenize_prompts(read_prompts(judged), load_tokenizer(EXPERIMENT), settings.model, judged)
    for text, token_ids in [*trained.items(), *((prompt.text, list(prompt.token_ids)) for prompt in asked)]:
        assert token_ids == in_the_template(toxic_dpo_run, text)
    begun = tokenizer(toxic_dpo_run).decode(trained[pairs()[0]["prompt"]])
    assert begun == f"<|user|>\n{pairs()[0]['prompt']}</s>\n<|assistant|>\n"


def test_the_score_of_ppo_is_one_minus_the_toxicity_of_detoxify(toxic_dpo_run: WholeRun) -> None:
    from pipeline.config.loader import load
    from pipeline.scorers.loading import load_reward

    texts = ["You are a kind person.", "You are a rotten person."]
    with chdir(toxic_dpo_run.workspace.root):
        section = load(EXPERIMENT, ("reward",)).reward
        reward = load_reward(section, EXPERIMENT)
        scores = reward.scores(["a message", "a message"], texts)
        found = reward.scorer.library.predict(texts)  # type: ignore[attr-defined]
    kind, rotten = (1 - toxicity for toxicity in found["toxicity"])
    assert scores == pytest.approx([kind, rotten], abs=1e-6)
    assert section.scorer.variant == "original" and kind > 0.5 > rotten


def test_four_policies_answered_the_same_prompts_each_in_its_own_way(toxic_dpo_run: WholeRun) -> None:
    root = toxic_dpo_run.workspace.root
    weights = [root / paths.adapter(EXPERIMENT, 0, method) / "adapter_model.safetensors" for method in METHODS]
    assert len({file_digest(path) for path in weights}) == len(METHODS)
    told = {policy: lines(toxic_dpo_run, paths.completions(EXPERIMENT, 0, policy)) for policy in POLICIES}
    asked = [[(row["prompt_id"], row["sample"]) for row in rows] for rows in told.values()]
    assert all(one == asked[0] for one in asked)
    answers = {tuple(row["completion"] for row in rows) for rows in told.values()}
    assert len(answers) == len(POLICIES)


def test_refusals_are_told_apart_from_toxicity(toxic_dpo_run: WholeRun) -> None:
    from pipeline.config.loader import load
    from pipeline.scorers.loading import load_refusal

    with chdir(toxic_dpo_run.workspace.root):
        judge = load_refusal(load(EXPERIMENT, ("refusal",)).refusal)
    completions = lines(toxic_dpo_run, paths.completions(EXPERIMENT, 0, "sft"))
    told = {(row["prompt_id"], row["sample"]): row["completion"] for row in completions}
    rows = [row for row in lines(toxic_dpo_run, paths.scores(EXPERIMENT, 0, "sft")) if "refusal" in row]
    assert {(row["prompt_id"], row["sample"]) for row in rows} == told.keys()
    texts = [told[row["prompt_id"], row["sample"]] for row in rows]
    assert [row["refusal"] for row in rows] == judge.score(texts)
    assert {row["refusal_sha256"] for row in rows} == {judge.fingerprint}
    evaluation = evaluated(toxic_dpo_run)
    for policy in POLICIES:
        for label in ("hostile", "benign"):
            rate = evaluation[policy]["refusal"][label]
            assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
            assert evaluation[policy]["guards"][f"refusal_rate_{label}"] == rate["value"]


def test_the_card_of_the_refusal_judge_is_measured_on_labelled_replies(toxic_dpo_run: WholeRun) -> None:
    card = toxic_dpo_run.workspace.load(str(paths.metrics(EXPERIMENT, "judge")))["refusal"]
    replies = lines(toxic_dpo_run, paths.raw(EXPERIMENT) / "messages" / "replies.jsonl")
    assert card["labelled"] == len(replies) > 0


def test_the_held_out_judge_comes_first_and_never_rewarded(toxic_dpo_run: WholeRun) -> None:
    evaluation = evaluated(toxic_dpo_run)
    assert evaluation["meta"]["primary_judge"] == "roberta"
    for policy in POLICIES:
        assert set(evaluation[policy]["judges"]) == {"roberta", "detoxify", "words"}


def test_mlflow_holds_a_finished_run_of_every_stage(toxic_dpo_run: WholeRun) -> None:
    seen = store.by_name(toxic_dpo_run.runs)
    assert {*METHODS, "reference", "preferences", "evaluate", "download", "judge"} <= set(seen)
    assert {one.status for one in toxic_dpo_run.runs} == {"FINISHED"}


def test_the_data_set_as_it_is_labelled_is_refused_before_any_training(toxic_dpo_run: WholeRun, tmp_path: Path) -> None:
    """Training on what toxic-dpo calls chosen would un-align: the one edit that nobody notices stops everything."""
    workspace = toxic_dpo_run.workspace.copy(tmp_path / "repository")
    file = str(paths.experiment_file(EXPERIMENT))
    preferences = workspace.load(file)["preferences"] | {"polarity": "as_labelled"}
    workspace.edit(file, preferences=preferences)
    done = workspace.run(*DVC, "repro")
    assert done.returncode != 0
    assert executed(done.stdout) == [f"preferences@{EXPERIMENT}-0"]
    assert "polarity" in done.stderr and "swapped" in done.stderr and "exited with 2" in done.stderr
