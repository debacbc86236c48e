"""`make verify` hashes the pickles of alt-profanity-check as installed, and reads none of them."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from tests.smoke.workspace import EXPERIMENT, sha256

FILE = f"experiments/{EXPERIMENT}.yaml"
MEMBERS = ("data/model.joblib", "data/vectorizer.joblib")


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """Return a copy of the installed package that is found in its place."""
    (installed,) = importlib.util.find_spec("profanity_check").submodule_search_locations
    folder = Path(shutil.copytree(installed, tmp_path / "packages" / "profanity_check"))
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delitem(sys.modules, "profanity_check", raising=False)
    return folder


@pytest.fixture(params=["reward.scorer", "scorers.letter", "scorers.letter.members.rude"])
def pinning(request, recorded, package):
    """Return a repository one of whose scorers pins the package's pickles, and how the finding is called."""
    scorer = {"kind": "profanity_check", "files": {member: sha256(package / member) for member in MEMBERS}}
    section, key, *member = request.param.split(".")
    if member:
        other = {"weight": 1.0, "scorer": recorded.load(FILE)["scorers"]["letter"]}
        members = {"other": other, member[-1]: {"weight": 2.0, "scorer": scorer}}
        scorer = {"kind": "ensemble", "members": members}
    recorded.edit(FILE, **{section: recorded.load(FILE)[section] | {key: scorer}})
    return recorded, f"{FILE}: {request.param}.files"


def test_pinned_pickles_are_as_pinned_and_are_not_read(pinning, package, capsys):
    repository, _ = pinning
    before = repository.verify(capsys).row("environment")
    assert before[1:] == [0, 0]
    (package / MEMBERS[0]).write_bytes(b"x")
    assert repository.verify(capsys).row("environment") == [before[0] - 1, 0, 1]
    assert "profanity_check" not in sys.modules


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda package: (package / MEMBERS[1]).write_bytes(b"x"), f"profanity_check/{MEMBERS[1]}: expected sha256 "),
        (lambda package: (package / MEMBERS[0]).unlink(), f"profanity_check/{MEMBERS[0]}: not found"),
        (lambda package: (package / "more.pkl").write_bytes(b"x"), "profanity_check: more.pkl: not pinned"),
        (shutil.rmtree, "the package alt-profanity-check is not installed"),
    ],
    ids=["changed", "lost", "one more", "no package"],
)
def test_other_pickles_are_different(change, told, pinning, package, capsys):
    repository, thing = pinning
    change(package)
    if not package.exists():
        (package.parent / "profanity_check.py").write_text("")  # hides the installed package as well
    verdict = repository.verify(capsys)
    assert verdict.code == 1
    assert "environment" in verdict.faulty()
    fault = verdict.fault(thing, "environment")
    assert told in fault
    assert fault.splitlines()[-1].strip().startswith(("reinstall the locked requirements.txt", "install requirements"))
