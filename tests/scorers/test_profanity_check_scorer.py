"""alt-profanity-check as installed, and what happens when its pickles are not the pinned ones."""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import profanity_check
import pytest
import yaml

from pipeline.io.errors import UserError
from pipeline.scorers import profanity_check as ours
from pipeline.scorers.loading import load_scorer
from pipeline.scorers.profanity_check import ProfanityCheckScorer
from tests.scorers.tiny import ROOT

LOAD = """
import sys
from pathlib import Path
from pipeline.scorers.profanity_check import ProfanityCheckScorer
from pipeline.io.errors import UserError
from pipeline.scorers.loading import load_scorer
try:
    load_scorer("profanity", ProfanityCheckScorer.model_validate_json(sys.argv[1]), Path("nowhere"), "exp")
    print("loaded")
except UserError as error:
    print(error)
print("imported" if "profanity_check" in sys.modules else "not imported")
"""


class Trap:
    """Makes a file when its pickle is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def pinned():
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    return ProfanityCheckScorer(**file["reward"]["scorer"])


@pytest.fixture
def copy(tmp_path):
    """Return a copy of the installed package in a folder that a subprocess finds first."""
    source = Path(profanity_check.__file__).parent
    return Path(shutil.copytree(source, tmp_path / "site" / "profanity_check"))


def load(config):
    return load_scorer("profanity", config, Path("nowhere"), "exp")


def load_from(copy, config):
    """Return what loading printed in a fresh interpreter that sees the copied package."""
    environment = os.environ | {"PYTHONPATH": f"{copy.parent}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", LOAD, config.model_dump_json()]
    done = subprocess.run(command, env=environment, cwd=copy.parent, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_tells_an_insult_from_a_kindness(pinned):
    insult, kindness, empty = load(pinned).score(["you are a stupid idiot", "thank you for the lovely bread", ""])
    assert 0 <= kindness < 0.2 < 0.8 < insult <= 1
    assert empty is not None and empty < 0.2


def test_a_score_does_not_depend_on_the_other_texts(pinned):
    scorer = load(pinned)
    texts = ["a silly thing", "", "what a stupid book", "the river", "\n"]
    assert scorer.score(texts) == [scorer.score([text])[0] for text in texts]


def test_the_pinned_package_loads_in_a_fresh_interpreter(copy, pinned):
    assert load_from(copy, pinned) == ["loaded", "imported"]


def test_a_changed_pickle_is_refused_before_anything_is_imported(copy, pinned, tmp_path):
    sprung = tmp_path / "sprung"
    (copy / "data" / "model.joblib").write_bytes(pickle.dumps(Trap(sprung)))
    message, imported = load_from(copy, pinned)
    assert message.startswith(f"profanity_check/data/model.joblib: expected sha256 {pinned.files['data/model.joblib']}")
    assert ours.file_digest(copy / "data" / "model.joblib") in message
    assert imported == "not imported" and not sprung.exists()


def test_a_pickle_that_is_not_pinned_is_refused(copy, pinned):
    files = {name: digest for name, digest in pinned.files.items() if "vectorizer" not in name}
    message, imported = load_from(copy, pinned.model_copy(update={"files": files}))
    assert message.startswith("profanity_check: data/vectorizer.joblib: not pinned") and imported == "not imported"


def test_an_absent_pickle_is_named(copy, pinned):
    (copy / "data" / "vectorizer.joblib").unlink()
    message, imported = load_from(copy, pinned)
    assert message.startswith("profanity_check/data/vectorizer.joblib: not found") and imported == "not imported"


def test_an_absent_package_is_named(pinned, monkeypatch):
    monkeypatch.setattr(ours, "PACKAGE", "profanity_check_that_is_not_there")
    with pytest.raises(UserError, match="alt-profanity-check is not installed"):
        load(pinned)


def test_fingerprint_follows_the_pickles(pinned):
    other = pinned.model_copy(update={"files": dict.fromkeys(pinned.files, "0" * 64)})
    digests = {ours.fingerprint({"kind": config.kind}, config.files) for config in (pinned, other)}
    assert len(digests) == 2 and load(pinned).fingerprint in digests
