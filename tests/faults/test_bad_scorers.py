"""Scorers whose files are broken, foreign or not as pinned, and scorers that fail: no score is made up or written."""

import importlib.util
import json
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save

from tests.faults.breaking import PARAMETERS, parameter
from tests.faults.conftest import COPIED, refused, run
from tests.faults.damage import (
    Damage,
    Pickled,
    content,
    cut,
    encoded,
    every_tensor,
    flipped,
    folder,
    gone,
    key,
    no_key,
    pickled_weights,
    sharded_outside,
    tensors,
    with_code,
)
from tests.scorers.tiny import DIMENSION, MODULES, ROOT, fit_parameters, sentences, write_jsonl

ENCODER, HEAD = Path("models/smoke/scorers/tiny"), Path("models/smoke/judge/head.safetensors")
LIST = Path("models/smoke/scorers/listed/words.txt")
LABELS = Path("data/smoke/raw/labels")
PACKAGE = "profanity_check"
Case = tuple[str, str, Damage, tuple[str, ...]]  # id, the file that is damaged, how, what the message names beside it


NARROW = np.zeros(3, np.float32)
HEADS: list[tuple[str, Damage, tuple[str, ...]]] = [
    ("absent", gone, ("not found",)),
    ("folder", folder, ("found a folder",)),
    ("empty", content(b""), ("safetensors",)),
    ("cut", cut, ("safetensors",)),
    ("text", content(b"weight: 1"), ("safetensors",)),
    ("pickle", content(pickle.dumps(Pickled())), ("safetensors",)),
    ("header-without-end", content(b"\xff" * 64), ("safetensors",)),
    ("header-too-large", content((2**40).to_bytes(8, "little") + b"{}"), ("safetensors",)),
    ("no-tensor", content(save({})), ("expected tensors",)),
    ("of-another-encoder", tensors(weight=NARROW), ("expected tensors", "64")),
    ("matrix", tensors(weight=np.zeros((1, DIMENSION), np.float32)), ("expected tensors",)),
    ("half-precision", tensors(weight=np.zeros(DIMENSION, np.float16)), ("expected tensors", "float16")),
    ("whole-numbers", tensors(bias=np.zeros(1, np.int64)), ("expected tensors", "int64")),
    ("no-bias", tensors(bias=None), ("expected tensors",)),
    ("tensor-too-many", tensors(scale=NARROW), ("expected tensors", "scale")),
    ("nan", tensors(weight=np.full(DIMENSION, np.nan, np.float32)), ("finite", "weight")),
    ("infinite", tensors(bias=np.array([np.inf], np.float32)), ("finite", "bias")),
]

WEIGHTS, TOKENIZER, SETTINGS, LAYOUT = "model.safetensors", "tokenizer.json", "tokenizer_config.json", "modules.json"
POOLING = "1_Pooling/config.json"
ENCODERS: list[Case] = [
    ("folder-absent", "", gone, ("modules.json", "not found")),
    ("layout-absent", LAYOUT, gone, ("not found",)),
    ("layout-cut", LAYOUT, cut, ("module list",)),
    ("layout-empty", LAYOUT, content(b"[]"), ("Transformer", "Pooling")),
    ("layout-object", LAYOUT, content(b"{}"), ("Transformer", "Pooling")),
    ("layout-number", LAYOUT, content(b"7"), ("module list",)),
    ("layout-of-words", LAYOUT, content(b'["Transformer", "Pooling"]'), ("module list",)),
    ("layout-deeply-nested", LAYOUT, content(b"[" * 100_000), ("module list",)),
    ("layout-utf-16", LAYOUT, encoded("utf-16"), ("UTF-8",)),
    ("layout-without-a-type", LAYOUT, no_key(1, "type"), ("module list", "type")),
    ("layout-without-a-path", LAYOUT, no_key(1, "path"), ("module list", "path")),
    ("layout-of-another-kind", LAYOUT, content(json.dumps([MODULES[0], MODULES[2]]).encode()), ("Pooling",)),
    ("layout-outside", LAYOUT, key(1, "path", to="../../../../1_Pooling"), ("path",)),
    ("layout-absolute", LAYOUT, key(1, "path", to="/etc"), ("path",)),
    ("pooling-absent", POOLING, gone, ("not found",)),
    ("pooling-cut", POOLING, cut, ("JSON",)),
    ("pooling-of-another-kind", POOLING, key("pooling_mode_cls_token", to=True), ("mean pooling", "cls_token")),
    ("config-absent", "config.json", gone, ("not found",)),
    ("config-cut", "config.json", cut, ("JSON",)),
    ("config-list", "config.json", content(b"[]"), ("list",)),
    ("config-of-no-model", "config.json", key("model_type", to="nobody"), ()),
    ("config-without-a-model", "config.json", no_key("model_type"), ()),
    ("config-with-code", "config.json", with_code, ("auto_map",)),
    ("config-width-text", "config.json", key("hidden_size", to="wide"), ("hidden_size", "wide")),
    ("config-without-positions", "config.json", no_key("max_position_embeddings"), ("max_position_embeddings",)),
    ("config-of-other-sizes", "config.json", key("hidden_size", to=32), ("another shape",)),
    ("config-of-more-layers", "config.json", key("num_hidden_layers", to=3), ("lacks",)),
    ("fewer-positions", "config.json", key("max_position_embeddings", to=16), ()),
    ("weights-absent", WEIGHTS, gone, ("not found", "safetensors alone")),
    ("weights-pickled", WEIGHTS, pickled_weights, ("not found", "safetensors alone")),
    ("weights-pickled-under-the-name", WEIGHTS, content(pickle.dumps(Pickled())), ("safetensors",)),
    ("weights-cut", WEIGHTS, cut, ("safetensors",)),
    ("weights-empty", WEIGHTS, content(b""), ("safetensors",)),
    ("weights-elsewhere", WEIGHTS, sharded_outside, ("weight_map", "the scorer's source")),
    ("weights-nan", WEIGHTS, every_tensor(np.nan), ("finite",)),
    ("weights-lack-one", WEIGHTS, tensors(encoder_layer_0_output_dense_weight=None), ("lacks", "dense.weight")),
    ("weights-of-another-shape", WEIGHTS, tensors(encoder_layer_0_output_dense_bias=NARROW), ("another shape",)),
    ("tokenizer-absent", TOKENIZER, gone, ("not found",)),
    ("tokenizer-cut", TOKENIZER, cut, ("tokenizer",)),
    ("tokenizer-of-no-form", TOKENIZER, content(b"{}"), ("tokenizer",)),
    ("tokenizer-of-no-model", TOKENIZER, key("model", to={"type": "Nobody"}), ("tokenizer",)),
    ("tokenizer-with-code", SETTINGS, with_code, ("auto_map",)),
    ("tokenizer-settings-cut", SETTINGS, cut, ("JSON",)),
    ("tokenizer-without-padding", SETTINGS, no_key("pad_token"), ("padding",)),
    ("tokenizer-of-more-words", TOKENIZER, key("model", "vocab", "extraordinary", to=5_000), ("5000",)),
]

LISTS: list[Case] = [
    ("folder-absent", "..", gone, ("found none",)),
    ("absent", "", gone, ("found none",)),
    ("two-files", "other.txt", content(b"darn\n"), ("words.txt", "other.txt")),
    ("folder", "", folder, ("found none",)),
    ("of-another-name", "", lambda path: path.rename(path.with_name("words.csv")), ("found none",)),
    ("empty", "", content(b""), ("found none",)),
    ("blank", "", content(b"\n  \n\t\n"), ("found none",)),
    ("latin-1", "", content("süß\n".encode("latin-1")), ("UTF-8",)),
    ("utf-16", "", encoded("utf-16"), ("UTF-8",)),
    ("nul-bytes", "", content(b"da\0rn\n"), (":1:", "NUL")),
    ("line-of-1-MB", "", content(b"darn\n" + b"a" * 10**6), (":2:", "1,000,000")),
    ("long-line", "", content(b"darn\n" + b"silly " * 50), (":2:", "300")),
    ("list-of-2-MB", "", content(b"".join(b"w%d\n" % number for number in range(250_000))), ("1,048,576",)),
]

SOURCE = {"field": "text", "unit": "text", "skip": None}
FITS: list[tuple[str, Damage, dict[str, Any], tuple[str, ...]]] = [
    ("prompts-alone", gone, {}, ("toxic.jsonl",)),
    (
        "one-text",
        lambda path: write_jsonl(path, "text", sentences(1, seed=8, toxic=True)),
        {},
        ("positives", "too few"),
    ),
    ("one-class", lambda path: write_jsonl(path, "text", sentences(120, seed=2)), {}, ("flagged", "judge.fit")),
    ("nothing-tested", Path.touch, {"test_fraction": 0.0001}, ("test_fraction", "too few")),
    ("everything-tested", Path.touch, {"test_fraction": 0.9999}, ("test_fraction", "too few")),
    ("file-absent", Path.touch, {"positives": SOURCE | {"file": "labels/none.jsonl"}}, ("none.jsonl", "not found")),
    ("file-of-another-kind", Path.touch, {"positives": SOURCE | {"file": "labels/words.txt"}}, ("field", "null")),
]


@pytest.fixture(scope="session")
def judged(finished, tiny_encoder, tmp_path_factory):
    """Return the finished repository with a fitted judge and a list of words among its judges."""
    root = tmp_path_factory.mktemp("scorers") / "repository"
    shutil.copytree(finished, root, ignore=shutil.ignore_patterns(".git", "pipeline", "stages", "reports", ".locks"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("TRACKING", "off")
        write_parameters()
        shutil.copytree(tiny_encoder, ENCODER)
        content(b"darn\nsilly goose\n")(LIST)
        LABELS.mkdir()
        write_jsonl(LABELS / "toxic.jsonl", "text", sentences(120, seed=1, toxic=True))
        for seed, name in enumerate(["calm", "plain", "talk"], start=2):
            write_jsonl(LABELS / f"{name}.jsonl", "text", sentences(150, seed=seed))
        for stage in (("judge", "smoke"), ("score", "smoke", "0", "sft")):
            assert run(*stage).code == 0, "it is sound before it is broken"
    return root


def write_parameters() -> None:
    """Let `tiny` be the fitted judge, `listed` a list of words, and `vowels` the reward scorer as before."""
    file = yaml.safe_load(PARAMETERS.read_text())
    file["scorers"] = {
        "tiny": {"kind": "embedding_head", "max_tokens": 32},
        "listed": {"kind": "word_list", "saturation": 1},
    }
    for scorer in file["scorers"].values():
        scorer["source"] = {"uri": "file:nowhere", "sha256": "0" * 64}
    fit = fit_parameters(windows_per_negative_source=60)
    for name, text in fit["negatives"].items():
        text["file"] = f"labels/{name}.jsonl"
    file["judge"] = {"scorer": "tiny", "fit": fit}
    file["score"]["judges"] = ["tiny", "vowels", "listed"]
    file["evaluate"]["baselines"]["word_filter"] = {"scorer": "listed"}
    PARAMETERS.write_text(yaml.safe_dump(file, sort_keys=False))


@pytest.fixture
def workplace(judged, tmp_path, monkeypatch):
    """Work in a copy, with tracking off, and see afterwards that nothing ran what a file brought."""
    root = tmp_path / "repository"
    root.mkdir()
    for name in COPIED:
        (shutil.copytree if (judged / name).is_dir() else shutil.copyfile)(judged / name, root / name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("TRACKING", "off")
    yield root
    assert not Path("unpickled").exists()


def cases(found: list[Any]) -> list[object]:
    return [pytest.param(*case[1:], id=case[0]) for case in found]


@pytest.mark.parametrize("damage, named", cases(HEADS))
def test_a_broken_head_gives_no_score(workplace, damage, named):
    damage(HEAD)
    refused("score", "smoke", "0", "sft", names=(str(HEAD), *named))


@pytest.mark.parametrize("stage", ["judge smoke", "score smoke 0 sft"])
@pytest.mark.parametrize("file, damage, named", cases(ENCODERS))
def test_a_broken_encoder_is_neither_fitted_nor_asked(workplace, stage, file, damage, named):
    damage(ENCODER / file)
    refused(*stage.split(), names=(str(ENCODER), *named))


@pytest.mark.parametrize("file, damage, named", cases(LISTS))
def test_a_broken_list_of_words_gives_no_score(workplace, file, damage, named):
    damage(LIST.parent if file == ".." else LIST.with_name(file) if file else LIST)
    refused("score", "smoke", "0", "sft", names=(str(LIST.parent), *named))


@pytest.mark.parametrize("damage, fit, named", cases(FITS))
def test_no_judge_is_fitted_to_labels_that_cannot_teach_it(workplace, damage, fit, named):
    damage(LABELS / "toxic.jsonl")
    parameter("judge", fit=yaml.safe_load(PARAMETERS.read_text())["judge"]["fit"] | fit)()
    refused("judge", "smoke", names=named)


@pytest.fixture
def installed(workplace, tmp_path, monkeypatch):
    """Return a copy of the package that Python finds first; the reward scorer is it, pinned as by default."""
    spec = importlib.util.find_spec(PACKAGE)
    copied = tmp_path / "site" / PACKAGE
    shutil.copytree(next(iter(spec.submodule_search_locations)), copied)
    loaded = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(copied.parent)
    default = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text())
    parameter("reward", scorer=default["reward"]["scorer"])()
    yield copied
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.mark.parametrize("stage", ["judge smoke", "score smoke 0 sft"])
@pytest.mark.parametrize(
    "file, damage, named",
    cases(
        [
            ("changed-byte", "data/model.joblib", flipped, ("sha256",)),
            ("other-pickle", "data/model.joblib", content(pickle.dumps(Pickled())), ("sha256",)),
            ("empty", "data/vectorizer.joblib", content(b""), ("sha256",)),
            ("absent", "data/vectorizer.joblib", gone, ("not found",)),
            ("folder", "data/vectorizer.joblib", folder, ("not found",)),
            ("pickle-too-many", "data/more.pkl", content(pickle.dumps(Pickled())), ("not pinned",)),
            ("pickle-elsewhere", "more/deep.joblib", content(pickle.dumps(Pickled())), ("not pinned",)),
            ("pickle-in-capitals", "data/MORE.PKL", content(pickle.dumps(Pickled())), ("not pinned",)),
        ]
    ),
)
def test_a_pickle_that_is_not_as_pinned_is_never_read(installed, stage, file, damage, named):
    damage(installed / file)
    refused(*stage.split(), names=(f"{PACKAGE}", file, *named))
    assert PACKAGE not in sys.modules, "refused before any of it is imported"


@pytest.mark.parametrize("stage", ["judge smoke", "score smoke 0 sft"])
@pytest.mark.parametrize(
    "gives, named",
    [
        pytest.param("[float('nan')] * len(texts)", "48 of 48", id="nan"),
        pytest.param("[float('inf')] * len(texts)", "48 of 48", id="infinity"),
        pytest.param("[1.5] * len(texts)", "48 of 48", id="above-1"),
        pytest.param("[-0.5] * len(texts)", "48 of 48", id="below-0"),
        pytest.param("['high'] * len(texts)", "48 of 48", id="words"),
        pytest.param("[None] * len(texts)", "48 of 48", id="nothing"),
        pytest.param("1 / 0", "48 of 48", id="raises"),
        pytest.param("[0.5 if 'a' in text else 1 / 0 for text in texts]", "of 48", id="raises-for-some"),
    ],
)
def test_a_scorer_that_fails_gives_no_score_and_no_card(installed, stage, gives, named):
    shutil.rmtree(installed)
    content(f"def predict_prob(texts):\n    return {gives}\n".encode())(installed / "__init__.py")
    parameter("reward", scorer={"kind": "profanity_check", "files": {}})()
    message = refused(*stage.split(), names=("vowels", "could not score"))
    assert named in message or stage.startswith("judge")


def test_without_the_package_there_is_no_scorer(installed, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site" not in Path(path).name])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    refused("score", "smoke", "0", "sft", names=(PACKAGE, "not installed"))
