"""Parameter files are read strictly: every error at once, with file, key and what was expected, and no traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.config.loader import load
from pipeline.config.roster import load_roster
from pipeline.io.errors import UserError
from tests.smoke import workspace

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8")
FILE = "experiments/exp.yaml"
REMOVED = object()
JUDGES = ["minilm", "profanity", "words"]
PROFANITY = yaml.safe_load(TEXT)["reward"]["scorer"]
MINILM = yaml.safe_load(TEXT)["scorers"]["minilm"]
BOUND = {"change": "absolute", "min": None, "max": 1.0}
ENTRY = {"experiment": "exp", "seed": 0}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()


def write(**changes):
    """Write the default experiment as `exp` with these dotted keys changed (__ for a dot) or removed."""
    file = yaml.safe_load(TEXT)
    for dotted, value in changes.items():
        *sections, key = dotted.split("__")
        place = file
        for section in sections:
            place = place[section]
        if value is REMOVED:
            del place[key]
        else:
            place[key] = value
    Path(FILE).write_text(yaml.safe_dump(file), encoding="utf-8")


def problems(*sections):
    with pytest.raises(UserError) as raised:
        load("exp", sections)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{FILE}: ") for line in lines), "every line names the file"
    return [line.removeprefix(f"{FILE}: ") for line in lines]


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"methods__ppo__clip_rnage": 0.2}, "methods.ppo.clip_rnage: unknown key"),
        ({"pppo": {}}, "pppo: unknown key"),
        ({"methods__dpo__beta": REMOVED}, "methods.dpo.beta: missing"),
        ({"methods": REMOVED}, "methods: missing"),
        ({"methods__rlhf": {}}, "methods.rlhf: no such method; name one of sft, ppo, dpo"),
        ({"sft": {}}, "sft: unknown key"),
        ({"methods__ppo__steps": "20"}, "methods.ppo.steps: input should be a valid integer, got '20'"),
        ({"methods__ppo__steps": 20.5}, "methods.ppo.steps: input should be a valid integer"),
        ({"methods__ppo__steps": True}, "methods.ppo.steps: input should be a valid integer"),
        ({"methods__ppo__whiten_advantages": 1}, "methods.ppo.whiten_advantages: input should be a valid boolean"),
        ({"methods__ppo__steps": 0}, "methods.ppo.steps: input should be greater than or equal to 1, got 0"),
        ({"methods__ppo__kl_coef": -0.1}, "methods.ppo.kl_coef: input should be greater than or equal to 0, got -0.1"),
        ({"methods__ppo__kl_coef": float("nan")}, "methods.ppo.kl_coef: "),
        ({"methods__sft__learning_rate": float("inf")}, "methods.sft.learning_rate: "),
        ({"methods__ppo__gamma": 1.01}, "methods.ppo.gamma: input should be less than or equal to 1"),
        ({"complete__top_p": 0.0}, "complete.top_p: input should be greater than 0"),
        ({"preferences__samples_per_prompt": 1}, "preferences.samples_per_prompt: "),
        ({"model__architecture": "diffusion"}, "model.architecture: "),
        ({"model__source__uri": "http://example.org"}, "model.source.uri: "),
        ({"reward__scorer__kind": "profanity_chekc"}, "reward.scorer.kind: "),
        ({"scorers__words__saturation": 0}, "scorers.words.saturation: "),
        ({"identity__templates": ["A sentence about nobody."]}, "identity.templates[0]: "),
        ({"identity__templates": ["{term} and {name}"]}, "identity.templates[0]: "),
        ({"identity__terms": []}, "identity.terms: "),
        ({"probe__tasks__piqa__layout": "essay"}, "probe.tasks.piqa.layout: "),
        ({"evaluate__guards__distinct_2": {"min": -0.1, "max": None}}, "evaluate.guards.distinct_2.change: missing"),
        ({"scorers__minilm__max_tokens": 0}, "scorers.minilm.max_tokens: "),
        ({"methods__ppo": None}, "methods.ppo: "),
        ({"methods": None}, "methods: "),
        ({"methods": ["sft"]}, "methods: "),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_was_expected(changes, expected):
    write(**changes)
    (found,) = problems("data")
    assert found.startswith(expected)


def test_a_key_that_may_be_two_things_is_named_as_it_stands_in_the_file():
    write(model__source__sha256="abc")
    assert {line.split(":")[0] for line in problems("model")} == {"model.source.sha256"}
    write(methods__ppo__kl_target="four")
    assert {line.split(":")[0] for line in problems("methods.ppo")} == {"methods.ppo.kl_target"}


def test_a_scorer_may_have_the_name_of_its_kind():
    write(scorers__keyword={"kind": "keyword", "keywords": ["darn"], "saturation": 0})
    (found,) = problems("scorers")
    assert found.startswith("scorers.keyword.saturation: ")


def test_the_whole_file_is_checked_whatever_the_stage_reads():
    write(methods__dpo__beta=-1.0)
    assert problems("data") == problems("methods.dpo") == problems()


def test_a_number_without_a_dot_is_the_number_that_it_looks_like():
    assert TEXT.count("    learning_rate: 1.0e-4") == 1
    Path(FILE).write_text(TEXT.replace("    learning_rate: 1.0e-4", "    learning_rate: 1e-4"), encoding="utf-8")
    assert load("exp", ("methods.dpo",)).methods["dpo"].learning_rate == 1.0e-4
    write(methods__dpo__learning_rate="1.0e-4")
    (found,) = problems("methods.dpo")
    assert found.startswith("methods.dpo.learning_rate: input should be a valid number, got '1.0e-4'")


def test_a_key_that_stands_twice_is_refused():
    Path(FILE).write_text(TEXT.replace("    steps: 20", "    steps: 20\n    steps: 30"), encoding="utf-8")
    (found,) = problems("methods.ppo")
    assert "'steps'" in found and "second time" in found and "line" in found


@pytest.mark.parametrize("text", ["ppo: [1", "\tppo: 1", "", "- 1\n- 2\n", "just text", "ppo: {{steps}}"])
def test_what_is_no_mapping_is_refused(text):
    Path(FILE).write_text(text, encoding="utf-8")
    assert len(problems("methods.ppo")) == 1


def test_an_unknown_experiment_names_those_that_there_are():
    write()
    with pytest.raises(UserError, match=r"experiments/other\.yaml: not found; there are: exp"):
        load("other", ())


TASK = {
    "kind": "adapter",
    "learning_rate": 1.0e-3,
    "warmup_ratio": 0.1,
    "epochs": 1,
    "batch_size": 8,
    "gradient_accumulation": 1,
    "max_grad_norm": 1.0,
    "weight_decay": 0.0,
    "max_demonstration_tokens": 32,
    "require": {"rouge_l": None, "toxicity_mean": None},
    "lora": {"r": 2, "alpha": 2, "dropout": 0.0, "target_modules": ["q_proj"]},
}


@pytest.mark.parametrize(
    "changes, expected",
    [
        (
            {"methods__ppo__minibatch_size": 25},
            "methods.ppo.minibatch_size: expected a divisor of the rollout (48 completions), got 25",
        ),
        ({"data__eval_fraction": 0.6, "data__dev_fraction": 0.4}, "data.eval_fraction: expected less than 1 together"),
        ({"score__judges": [*JUDGES, "unknown"]}, "score.judges[3]: expected one of the scorers minilm, profanity, "),
        ({"score__judges": [*JUDGES, "minilm"]}, "score.judges: expected every judge once"),
        ({"score__judges": JUDGES[::-1]}, "score.judges[0]: expected the held-out judge 'minilm'"),
        ({"reward__name": "minilm"}, "scorers.minilm: this name is the reward scorer's"),
        ({"scorers__twin": PROFANITY}, "scorers.twin: this is the reward scorer 'profanity' under another name"),
        ({"scorers__second": MINILM}, "scorers.second: kind embedding_head is for the held-out judge alone"),
        ({"reward__scorer": MINILM | {"max_tokens": 64}}, "reward.scorer.kind: embedding_head is for the held-out"),
        (
            {"evaluate__baselines__best_of_k__scorer": "unknown"},
            "evaluate.baselines.best_of_k.scorer: expected one of score.judges (minilm, profanity, words)",
        ),
        ({"judge__fit__threshold": 0.4}, "judge.fit.threshold: expected evaluate.threshold"),
        ({"evaluate__guards__perplexity": BOUND}, "evaluate.guards.perplexity: expected one of distinct_1, "),
        ({"evaluate__guards__hellaswag_accuracy": BOUND}, "evaluate.guards.hellaswag_accuracy: expected one of "),
        ({"evaluate__guards__piqa_accuracy": BOUND | {"change": "relative"}}, "evaluate.guards.piqa_accuracy.change: "),
        ({"evaluate__guards__identity_perplexity": BOUND}, "evaluate.guards.identity_perplexity.change: expected rel"),
        ({"evaluate__guards__kl": BOUND | {"max": None}}, "evaluate.guards.kl: expected a bound"),
        ({"evaluate__guards__kl": BOUND | {"min": 2.0}}, "evaluate.guards.kl: expected min below max"),
        ({"judge__fit": None}, "judge.fit: expected a mapping"),
        ({"judge__fit__held_out_source": "news"}, "judge.fit.held_out_source: expected one of"),
        ({"judge__fit__window_words": [20, 5]}, "judge.fit.window_words: expected [shortest, longest]"),
        ({"complete__analyzed_samples": 9}, "complete.analyzed_samples: expected at most"),
        ({"model__source": None}, "model.source: expected this or model.build, the other one null, got neither"),
        ({"model__architecture": "seq2seq"}, "fluency.kind: expected causal_lm"),
        ({"reference": TASK}, "reference.kind: expected base, since realtoxicityprompts has no demonstrations"),
        ({"reference": TASK}, "lora: expected the same values as reference.lora"),
        ({"reward__output": "logit"}, "reward.output: expected toxicity, since a scorer of kind profanity_check"),
        ({"complete__rtp_protocol": True}, "complete.samples_per_prompt: complete.rtp_protocol needs 25, got 8"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(changes, expected):
    write(**changes)
    found = problems()
    assert [line for line in found if line.startswith(expected)], found
    assert len(found) <= 3, "what follows from one mistake stays short"


def test_the_reward_scorer_may_not_be_the_only_judge():
    write(score__judges=["profanity", "profanity"])
    assert any("may not be the only judge" in line and "score.judges" in line for line in problems("score"))
    write(score__judges=["profanity"])
    assert any(line.startswith("score.judges: ") for line in problems("score"))
    write(judge__scorer="profanity")
    assert any(line.startswith("judge.scorer: the held-out judge may not be") for line in problems("score"))


def test_all_errors_are_told_at_once():
    write(methods__ppo__steps="many", methods__dpo__beta=-1.0, methods__sft__epoch=3, evaluate=REMOVED)
    methods = {"methods.ppo.steps", "methods.dpo.beta", "methods.sft.epoch"}
    assert {line.split(":")[0] for line in problems("data")} == {*methods, "evaluate"}
    write(methods__ppo__minibatch_size=7, data__eval_fraction=0.95, complete__analyzed_samples=100)
    assert len(problems("data")) == 3


def test_a_stage_sees_only_the_sections_it_declares():
    write(methods__ppo__steps=7)
    settings = load("exp", ("methods.ppo", "model"))
    assert settings.methods["ppo"].steps == 7
    assert settings.methods.keys() == {"ppo"}, "no other method"
    with pytest.raises(AttributeError, match="'lora' is not declared by this stage"):
        _ = settings.lora
    with pytest.raises(AttributeError, match="'methods' is not declared by this stage"):
        _ = load("exp", ("model",)).methods
    with pytest.raises(ValueError, match="frozen"):
        settings.methods["ppo"].steps = 8
    flat = settings.flattened()
    assert flat["methods.ppo.steps"] == 7 and flat["model.source.uri"].startswith("pypi:")
    assert {key.split(".")[0] for key in flat} == {"methods", "model"}
    assert {key.split(".")[1] for key in flat if key.startswith("methods.")} == {"ppo"}


def test_an_experiment_names_the_methods_that_it_wants_and_they_come_in_the_order_of_the_list():
    methods = yaml.safe_load(TEXT)["methods"]
    write(methods={"dpo": methods["dpo"], "sft": methods["sft"]})
    settings = load("exp", ("methods",))
    assert list(settings.methods) == ["sft", "dpo"]
    assert not any(key.startswith("methods.ppo.") for key in settings.flattened())


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"seeds": [0, 0]}, "params.yaml: seeds: expected every entry once"),
        ({"seeds": []}, "params.yaml: seeds: "),
        ({"seeds": [-1]}, "params.yaml: seeds[0]: "),
        ({"policies": ["reference", "sft"]}, "params.yaml: policies: expected keys with values"),
        ({"policies": {"exp-0-sft": {**ENTRY, "policy": "../up"}}}, "params.yaml: policies.exp-0-sft.policy: "),
        ({"trainings": {"sft": {"exp-0": {"experiment": "exp"}}}}, "params.yaml: trainings.sft.exp-0.seed: missing"),
        ({"trainings": {"sft": {"exp-0": ENTRY | {"rate": 1}}}}, "params.yaml: trainings.sft.exp-0.rate: unknown key"),
        ({"experiments": ["../elsewhere"]}, "params.yaml: experiments[0]: "),
        ({"seed": [1]}, "params.yaml: seed: unknown key"),
    ],
)
def test_a_wrong_roster_is_refused(changes, expected):
    roster = workspace.roster(["exp"], [0, 1])
    Path("params.yaml").write_text(yaml.safe_dump(roster), encoding="utf-8")
    assert load_roster().seeds == [0, 1]
    Path("params.yaml").write_text(yaml.safe_dump(roster | changes), encoding="utf-8")
    with pytest.raises(UserError) as raised:
        load_roster()
    assert str(raised.value).startswith(expected)


def test_a_stage_ends_with_code_2_and_the_messages_alone():
    write(methods__ppo__steps="many", methods__dpo__beta=-1.0)
    found = subprocess.run(
        [sys.executable, "-m", "stages.format", "exp"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 2
    lines = found.stderr.splitlines()
    assert len(lines) == 2 and "methods.ppo.steps" in found.stderr and "methods.dpo.beta" in found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    assert sorted(path.name for path in Path(".").rglob("*")) == ["exp.yaml", "experiments"], "nothing was written"
