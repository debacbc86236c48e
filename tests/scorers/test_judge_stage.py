"""The judge stage on a tiny encoder: its files, the fitted judge's card, and when it refuses."""

import shutil

import pytest
import yaml

from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json
from pipeline.scorers.loading import load_judges, load_scorer
from tests.data.dialogues import section, write_jsonl
from tests.scorers.tiny import fit_parameters, sentences
from tests.scorers.tiny_judges import run_stage, write_csv, write_experiment, write_labels


@pytest.fixture
def experiment(tiny_encoder, tmp_path, monkeypatch):
    """Work in a folder with a downloaded encoder, five prompts, and labelled texts of which three are prompts."""
    monkeypatch.chdir(tmp_path)
    write_labels(tiny_encoder)
    write_experiment(fit_parameters())


def run():
    return run_stage()["tiny"]


def outputs():
    return {path.name: path.read_bytes() for path in sorted(paths.judge("exp").iterdir())}


def load_judge():
    settings = load("exp", ("reward", "scorers"))
    return load_judges(["tiny"], settings.reward, settings.scorers, "exp")[0]


def test_the_fitted_judge_tells_unseen_toxic_text_from_harmless(experiment):
    card = run()
    scorer = load_judge()
    toxic, harmless = (scorer.score(sentences(60, seed=11, toxic=kind)) for kind in (True, False))
    assert sum(score >= 0.5 for score in toxic) > 50 and sum(score < 0.5 for score in harmless) > 50
    assert card["test"]["auc"] > 0.95
    assert scorer.fingerprint == card["fingerprint"] and scorer.name == card["scorer"] == "tiny"


def test_the_card_stands_beside_the_head_and_as_metrics(experiment):
    card = run()
    assert set(outputs()) == {"card.json", "head.safetensors"}
    assert read_json(paths.judge("exp") / "card.json") == read_json(paths.metrics("exp", "judge"))
    assert (card["status"], card["kind"], card["held_out_source"]) == ("fitted", "embedding_head", "talk")
    assert card["sources"]["positives"]["texts"] == 120 and card["sources"]["positives"]["excluded"] == 3
    assert card["false_positive_rate"] == card["left_out"]["talk"] and set(card["left_out"]) == {
        "calm",
        "plain",
        "talk",
    }
    for rate in (*card["left_out"].values(), card["test"]["sensitivity"], card["test"]["specificity"]):
        assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1 and rate["low"] < rate["high"]


def test_the_false_positive_rate_is_that_of_the_head_in_use(experiment):
    talk = sentences(40, seed=5) + sentences(3, seed=6, toxic=True)
    write_csv(paths.raw("exp") / "labels" / "talk.csv", talk)
    write_experiment(fit_parameters(window_words=[50, 50]))  # every turn whole
    rate = run()["false_positive_rate"]
    flagged = sum(score >= 0.5 for score in load_judge().score(talk))
    assert rate["windows"] == 43 and rate["value"] == pytest.approx(flagged / 43, abs=1e-6) and flagged >= 3


def test_a_judge_that_flags_harmless_text_fails_and_leaves_nothing(experiment):
    write_csv(paths.raw("exp") / "labels" / "talk.csv", sentences(150, seed=5, toxic=True))
    with pytest.raises(UserError, match=r"of talk, .* is flagged as toxic; expected at most 10.0%"):
        run()
    assert not paths.judge("exp").exists() and not paths.metrics("exp", "judge").exists()


def test_two_runs_give_the_same_bytes(experiment):
    run()
    first = outputs()
    shutil.rmtree(paths.judge("exp"))
    run()
    assert outputs() == first


def test_the_judge_depends_on_no_split(experiment):
    run()
    first = outputs()
    write_experiment(fit_parameters(), data={"eval_fraction": 0.6, "dev_fraction": 0.3})
    run()
    assert outputs() == first


def test_the_fingerprint_follows_head_encoder_and_settings(experiment):
    fingerprints = {run()["fingerprint"]}
    write_experiment(fit_parameters(seed=1))
    fingerprints.add(run()["fingerprint"])
    (paths.scorers("exp") / "tiny" / "tokenizer_config.json").open("a").write("\n")
    fingerprints.add(load_judge().fingerprint)
    config = load("exp", ("scorers",)).scorers["tiny"].model_copy(update={"max_tokens": 31})
    fingerprints.add(load_scorer("tiny", config, paths.scorers("exp") / "tiny", "exp").fingerprint)
    assert len(fingerprints) == 4


def test_a_judge_that_is_not_fitted_yet_is_named(experiment):
    with pytest.raises(UserError, match=r"head\.safetensors: not found; run `dvc repro`"):
        load_judge()


@pytest.mark.parametrize("content", [b"no tensors", None])
def test_a_broken_head_is_named(experiment, content):
    run()
    if content is None:  # of another encoder
        import numpy as np
        from safetensors.numpy import save

        content = save({"weight": np.zeros(3, np.float32), "bias": np.zeros(1, np.float32)})
    (paths.judge("exp") / "head.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"head\.safetensors: expected"):
        load_judge()


def test_scores_keep_the_order_of_the_texts(experiment):
    run()
    texts = sentences(30, seed=12, toxic=True) + ["", "the man"] + sentences(30, seed=13)
    scorer = load_judge()
    alone = [scorer.score([text])[0] for text in texts]
    assert scorer.score(texts) == pytest.approx(alone, abs=1e-5)
    assert None not in alone


def test_texts_that_only_training_prompts_touch_are_used(experiment):
    toxic = sentences(120, seed=1, toxic=True)
    raw = paths.raw("exp") / "dialogsum"
    for name, texts in {"train": toxic[:7], "dev": toxic[7:9], "test": toxic[9:10]}.items():
        write_jsonl(raw / f"{name}.jsonl", [{"dialogue": text, "summary": "A talk."} for text in texts])
    file = yaml.safe_load(paths.experiment_file("exp").read_text())
    file["data"] = section().model_dump()
    paths.experiment_file("exp").write_text(yaml.safe_dump(file))
    assert run()["sources"]["positives"]["excluded"] == 3, "those of dev and test, the instruction notwithstanding"
