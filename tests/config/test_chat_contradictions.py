"""Chat experiments whose keys contradict each other are refused, each with its key; the committed ones are not."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.loader import load
from pipeline.io import paths
from pipeline.io.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
CHAT, PAIRS = "smollm2-chat", "tinyllama-toxic-dpo"
TOXIC = ("data", "lists", "insults")


def refusal(name: str, changes: dict[tuple[str, ...], Any], folder: Path) -> str:
    """Return what loading a committed experiment says with these values changed; empty where it is accepted."""
    file = copy.deepcopy(yaml.safe_load((ROOT / paths.experiment_file(name)).read_text(encoding="utf-8")))
    for place, value in changes.items():
        section = file
        for key in place[:-1]:
            section = section[key]
        section[place[-1]] = value
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / paths.experiment_file("exp")).write_text(yaml.safe_dump(file), encoding="utf-8")
    try:
        load("exp", ())
    except UserError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", [CHAT, PAIRS])
def test_the_committed_files_contradict_nothing(name: str, root: Path) -> None:
    assert refusal(name, {}, root) == ""


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({("preferences", "kind"): "dataset"}, "preferences"),
        ({(*TOXIC, "eval_fraction"): 0.9}, "data.lists.insults.eval_fraction: expected at most 1"),
        ({(*TOXIC, "field"): None}, "data.lists.insults.field: expected null for a .txt file"),
        (
            {(*TOXIC, "file"): "nowhere/hostile.jsonl"},
            "data.lists.insults.file: expected a file of one of data.sources",
        ),
        ({("refusal", "labelled", "file"): "nowhere/x.jsonl"}, "refusal.labelled.file: expected a file of one of"),
        ({("refusal",): None}, "evaluate.guards.refusal_rate_benign"),
        ({("data", "lists", "harmless", "label"): "hostile"}, "evaluate.guards.refusal_rate_benign: expected prompts"),
        (
            {("data", "lists", "harmless", "eval_fraction"): 0.0},
            "evaluate.guards.refusal_rate_benign: expected prompts",
        ),
        ({("model", "prompt_format"): "chat"}, "model.prompt_format"),
    ],
)
def test_a_chat_experiment_that_contradicts_itself_is_refused(changes: Any, expected: str, root: Path) -> None:
    assert expected in refusal(CHAT, changes, root)


@pytest.mark.parametrize("label", ["hostile", "benign"])
def test_no_list_is_called_as_a_label_is(label: str, root: Path) -> None:
    lists = yaml.safe_load((ROOT / paths.experiment_file(CHAT)).read_text(encoding="utf-8"))["data"]["lists"]
    renamed = {label if name == "insults" else name: listed for name, listed in lists.items()}
    assert f"data.lists.{label}: expected another name" in refusal(CHAT, {("data", "lists"): renamed}, root)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({("preferences", "polarity"): None}, "preferences.polarity"),
        ({("preferences", "polarity_override"): " \t"}, "preferences.polarity_override"),
        ({("preferences", "polarity_override"): ""}, "preferences.polarity_override"),
        ({("refusal",): None}, "refusal: expected a judge of refusals"),
        ({("data", "pairs"): None}, "preferences.kind: expected on_policy, since `data` has no pairs"),
        ({("data", "pairs", "file"): "elsewhere/toxic-dpo.parquet"}, "data.pairs.file: expected a file of one of"),
    ],
)
def test_a_preference_data_set_needs_its_polarity_and_what_checks_it(changes: Any, expected: str, root: Path) -> None:
    assert expected in refusal(PAIRS, changes, root)


def judge_of(name: str, **changes: Any) -> Any:
    file = yaml.safe_load((ROOT / paths.experiment_file(name)).read_text(encoding="utf-8"))
    return file["scorers"][file["judge"]["scorer"]] | changes


def test_the_held_out_judge_may_not_reward_under_other_settings(root: Path) -> None:
    scorer = judge_of(PAIRS, max_tokens=511)
    assert "reward.scorer: this is the held-out judge" in refusal(PAIRS, {("reward", "scorer"): scorer}, root)


def test_nor_as_a_member_of_an_ensemble_and_no_member_is_there_twice(root: Path) -> None:
    words = {"kind": "keyword", "keywords": ["darn"], "saturation": 1}
    members = {"judge": {"weight": 1.0, "scorer": judge_of(PAIRS)}, "words": {"weight": 1.0, "scorer": words}}
    ensemble = {"kind": "ensemble", "members": members}
    found = refusal(PAIRS, {("reward", "scorer"): ensemble}, root)
    assert "reward.scorer.members.judge: this is the held-out judge" in found
    twice = {"kind": "ensemble", "members": {"a": members["words"], "b": copy.deepcopy(members["words"])}}
    assert "reward.scorer.members: expected every scorer once" in refusal(PAIRS, {("reward", "scorer"): twice}, root)


def test_an_ensemble_has_no_logits_to_reward(root: Path) -> None:
    words = {"kind": "keyword", "keywords": ["darn"], "saturation": 1}
    others = {"kind": "keyword", "keywords": ["silly"], "saturation": 1}
    members = {"a": {"weight": 1.0, "scorer": words}, "b": {"weight": 2.0, "scorer": others}}
    changes = {("reward", "scorer"): {"kind": "ensemble", "members": members}, ("reward", "output"): "logit"}
    assert "reward.output: expected toxicity" in refusal(PAIRS, changes, root)
