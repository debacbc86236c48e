"""Sequence classifiers and Detoxify checkpoints that are broken, foreign or not as pinned: no score is written."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.faults.breaking import PARAMETERS
from tests.faults.conftest import COPIED, refused, run
from tests.faults.damage import (
    Damage,
    Pickled,
    content,
    cut,
    every_tensor,
    folder,
    gone,
    key,
    no_key,
    pickled_weights,
    tensors,
    with_code,
)
from tests.scorers import tiny_classifiers as tiny

CLASSIFIER, DETOXIFY = Path("models/smoke/scorers/hateful"), Path("models/smoke/scorers/library")
SCORE = ("score", "smoke", "0", "sft")
WEIGHTS, CONFIG, MERGES, VOCABULARY = "model.safetensors", "config.json", "merges.txt", "vocab.json"
NARROW = np.zeros(3, np.float32)
Case = tuple[str, str, Damage, tuple[str, ...]]  # id, the file that is damaged, how, what the message names beside it


def swapped(path: Path) -> None:
    """Exchange the names of the labels."""
    key("id2label", to={"0": "hate", "1": "nothate"})(path)


def renamed(path: Path) -> None:
    """Give every weight of the classifier's head another name, as a checkpoint of another head has."""
    from safetensors.torch import load_file, save_file

    weights = {name.replace("classifier.", "head."): weight for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})


CLASSIFIERS: list[Case] = [
    ("folder-absent", "", gone, ("not found",)),
    ("config-absent", CONFIG, gone, ("not found",)),
    ("config-cut", CONFIG, cut, ("JSON",)),
    ("config-of-no-model", CONFIG, key("model_type", to="nobody"), ()),
    ("config-of-a-model-without-a-classifier", CONFIG, key("model_type", to="whisper"), ()),
    ("config-with-code", CONFIG, with_code, ("auto_map",)),
    ("config-of-other-sizes", CONFIG, key("hidden_size", to=16), ("another shape",)),
    ("config-of-more-layers", CONFIG, key("num_hidden_layers", to=3), ("lacks",)),
    ("config-of-fewer-positions", CONFIG, key("max_position_embeddings", to=16), ()),
    ("config-of-more-labels", CONFIG, key("id2label", to={"0": "odd", "1": "hate", "2": "x"}), ("another shape",)),
    ("labels-without-names", CONFIG, no_key("id2label"), ("LABEL_0, LABEL_1",)),
    ("labels-with-other-names", CONFIG, key("id2label", to={"0": "fine", "1": "bad"}), ("'hate'", "fine, bad")),
    ("labels-exchanged", CONFIG, swapped, ("looks wrong", "`label` and `means`")),
    ("a-regression", CONFIG, key("problem_type", to="regression"), ("no probability",)),
    ("a-problem-of-no-name", CONFIG, key("problem_type", to="riddle"), ("'riddle'", "no probability")),
    ("weights-absent", WEIGHTS, gone, ("not found", "safetensors alone")),
    ("weights-cut", WEIGHTS, cut, ("safetensors",)),
    ("weights-nan", WEIGHTS, every_tensor(np.nan), ("finite",)),
    ("weights-zero", WEIGHTS, every_tensor(0.0), ("looks wrong",)),
    ("weights-lack-one", WEIGHTS, tensors(classifier_out_proj_bias=None), ("lacks", "classifier.out_proj.bias")),
    ("weights-of-another-shape", WEIGHTS, tensors(classifier_dense_bias=NARROW), ("another shape",)),
    ("weights-of-another-head", WEIGHTS, renamed, ("lacks", "classifier.dense.bias")),
    ("weights-in-a-pickle-that-is-not-pinned", WEIGHTS, pickled_weights, ("pytorch_model.bin", "not pinned")),
    ("vocabulary-absent", VOCABULARY, gone, ("not found", "vocab.json with merges.txt")),
    ("vocabulary-cut", VOCABULARY, cut, ("tokenizer",)),
    ("merges-absent", MERGES, gone, ("not found", "vocab.json with merges.txt")),
    ("merges-of-no-form", MERGES, content(b"\xff\xfe\x00"), ("tokenizer",)),
    ("vocabulary-of-more-words", VOCABULARY, key("extraordinary", to=5_000), ("5000",)),
    (
        "tokenizer-with-code",
        "tokenizer_config.json",
        content(b'{"auto_map": {"AutoTokenizer": "own.T"}}'),
        ("auto_map",),
    ),
]


def rewritten(*, without: str = "", **held: Any) -> Damage:
    """Change what Detoxify's checkpoint holds."""

    def damage(path: Path) -> None:
        whole = torch.load(path, weights_only=True) | held
        torch.save({name: value for name, value in whole.items() if name != without}, path)

    return damage


CHECKPOINT = "checkpoint/toxic_unbiased.ckpt"
LIBRARY: list[Case] = [
    ("folder-absent", "", gone, ("expected one file",)),
    ("checkpoint-absent", CHECKPOINT, gone, ("expected one file", "none")),
    ("checkpoint-a-folder", CHECKPOINT, folder, ("expected one file", "none")),
    ("checkpoint-cut", CHECKPOINT, cut, ("cannot be read",)),
    ("checkpoint-empty", CHECKPOINT, content(b""), ("cannot be read",)),
    ("checkpoint-that-runs", CHECKPOINT, content(pickle.dumps(Pickled())), ("cannot be read",)),
    ("checkpoint-without-weights", CHECKPOINT, rewritten(without="state_dict"), ("checkpoint of Detoxify",)),
    ("checkpoint-without-config", CHECKPOINT, rewritten(without="config"), ("checkpoint of Detoxify",)),
    ("checkpoint-with-other-config", CHECKPOINT, rewritten(config={"arch": 7}), ("checkpoint of Detoxify",)),
    ("checkpoint-of-words", CHECKPOINT, rewritten(state_dict={"weight": "heavy"}), ("tensors by name",)),
    ("checkpoint-of-no-weights", CHECKPOINT, rewritten(state_dict={}), ("lacks",)),
    ("config-absent", f"tokenizer/{CONFIG}", gone, ("not found",)),
    ("config-of-other-sizes", f"tokenizer/{CONFIG}", key("hidden_size", to=16), ("cannot be read",)),
    ("config-with-code", f"tokenizer/{CONFIG}", with_code, ("auto_map",)),
    ("config-of-fewer-positions", f"tokenizer/{CONFIG}", key("max_position_embeddings", to=16), ()),
    ("merges-absent", f"tokenizer/{MERGES}", gone, ("not found",)),
    ("vocabulary-of-more-words", f"tokenizer/{VOCABULARY}", key("extraordinary", to=5_000), ("5000",)),
]


@pytest.fixture(scope="session")
def classified(finished, tmp_path_factory):
    """Return the finished repository with a sequence classifier and Detoxify among its judges."""
    root = tmp_path_factory.mktemp("classifiers") / "repository"
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns(".git", "pipeline", "stages", "reports", ".locks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TRACKING", "off")
        tiny.write_roberta(CLASSIFIER)
        tiny.write_detoxify(DETOXIFY)
        write_parameters()
        done = run(*SCORE)
        assert done.code == 0, f"it is sound before it is broken: {done}"
    return root


def write_parameters() -> None:
    """Let both judge, each pinned as its files are now."""
    file = yaml.safe_load(PARAMETERS.read_text())
    scorers = {"hateful": tiny.classifier(CLASSIFIER), "library": tiny.detoxify(DETOXIFY)}
    file["scorers"] |= {name: scorer.model_dump() for name, scorer in scorers.items()}
    file["score"]["judges"] = [*dict.fromkeys([*file["score"]["judges"], *scorers])]
    PARAMETERS.write_text(yaml.safe_dump(file, sort_keys=False))


@pytest.fixture
def workplace(classified, tmp_path, monkeypatch):
    """Work in a copy, with tracking off, and see afterwards that nothing ran what a file brought."""
    root = tmp_path / "repository"
    root.mkdir()
    for name in COPIED:
        (shutil.copytree if (classified / name).is_dir() else shutil.copyfile)(classified / name, root / name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRACKING", "off")
    yield root
    assert not Path("unpickled").exists()


def cases(found: list[Case]) -> list[object]:
    return [pytest.param(*case[1:], id=case[0]) for case in found]


@pytest.mark.parametrize("file, damage, named", cases(CLASSIFIERS))
def test_a_broken_classifier_gives_no_score(workplace, file, damage, named):
    damage(CLASSIFIER / file)
    refused(*SCORE, names=(str(CLASSIFIER), *named))


@pytest.mark.parametrize("file, damage, named", cases(LIBRARY))
def test_a_broken_detoxify_gives_no_score(workplace, file, damage, named):
    damage(DETOXIFY / file)
    write_parameters()  # pinned as it is now
    refused(*SCORE, names=(str(DETOXIFY), *named))


def test_another_checkpoint_than_the_pinned_one_is_not_read(workplace):
    content(pickle.dumps(Pickled()))(DETOXIFY / CHECKPOINT)
    refused(*SCORE, names=(str(DETOXIFY / CHECKPOINT), "(pinned), got"))


def edited(name: str, **changes: Any) -> Callable[[], None]:
    def change() -> None:
        file = yaml.safe_load(PARAMETERS.read_text())
        file["scorers"][name] |= changes
        PARAMETERS.write_text(yaml.safe_dump(file, sort_keys=False))

    return change


@pytest.mark.parametrize(
    "change, named",
    [
        pytest.param(edited("hateful", label="toxic"), ("'toxic'", "nothate, hate"), id="unknown-label"),
        pytest.param(edited("hateful", label="LABEL_1"), ("'LABEL_1'", "nothate, hate"), id="label-by-number"),
        pytest.param(edited("hateful", means="harmless"), ("looks wrong",), id="wrong-sign"),
        pytest.param(edited("hateful", max_tokens=2), ("max_tokens",), id="no-room-for-a-word"),
        pytest.param(edited("hateful", max_tokens=513), ("max_tokens", "48"), id="more-than-the-positions"),
        pytest.param(edited("library", head="hate"), ("'hate'", "toxicity, severe_toxicity"), id="unknown-head"),
        pytest.param(edited("library", variant="original"), ("'original'", "Roberta"), id="another-variant"),
        pytest.param(edited("library", max_tokens=513), ("max_tokens", "48"), id="more-than-the-librarys-positions"),
    ],
)
def test_parameters_that_do_not_fit_the_files_are_refused(workplace, change, named):
    change()
    refused(*SCORE, names=named)


def test_rows_tell_which_texts_were_cut(classified, monkeypatch):
    monkeypatch.chdir(classified)
    rows = [json.loads(line) for line in Path("scores/smoke/0/sft.jsonl").read_text().splitlines()]
    found = {judge: {row["cut"] for row in rows if row["judge"] == judge} for judge in ("hateful", "vowels")}
    assert found["vowels"] == {False} and found["hateful"] <= {False, True}
