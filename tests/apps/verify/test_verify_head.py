"""`make verify` is about the committed lock: one that was made to agree with other results is no record of them."""

import json
import shutil

import pytest

from tests.faults.conftest import run
from tests.smoke.workspace import EXPERIMENT

SCORES = "scores/smoke/0/ppo.jsonl"
CLEAN = "verify: all is as recorded\n"


def test_results_that_were_recorded_anew_are_found_until_the_lock_is_committed(recorded, monkeypatch, capsys):
    monkeypatch.setenv("TRACKING", "off")
    rows = [json.loads(line) for line in (recorded.root / SCORES).read_text().splitlines()]
    assert any(row["toxicity"] for row in rows)
    harmless = "".join(json.dumps(row | {"toxicity": 0.0}, sort_keys=True) + "\n" for row in rows)
    (recorded.root / SCORES).unlink()  # a link to DVC's cache, perhaps
    (recorded.root / SCORES).write_text(harmless)
    outcome = run("evaluate", EXPERIMENT)
    assert outcome.code == 0, outcome.stderr
    recorded.dvc("commit", "--force")
    verdict = recorded.verify(capsys, "--allow-missing")
    assert verdict.code == 1
    assert verdict.faulty() == {"lock"}
    told = verdict.fault("dvc.lock")
    assert told.startswith("lock, different: ") and told.endswith("  commit it, or `git checkout -- dvc.lock`")
    recorded.commit()
    assert recorded.verify(capsys).code == 0


def test_the_remedy_brings_the_committed_lock_back(recorded, capsys):
    recorded.replace("dvc.lock", "schema:", "# a comment\nschema:")
    assert recorded.verify(capsys, EXPERIMENT).faulty() == {"lock"}
    recorded.git("checkout", "--", "dvc.lock")
    assert recorded.verify(capsys, EXPERIMENT).code == 0


def test_a_lock_that_was_staged_is_not_committed(recorded, capsys):
    recorded.replace("dvc.lock", "schema:", "# a comment\nschema:")
    recorded.git("add", "dvc.lock")
    assert recorded.verify(capsys).faulty() == {"lock"}


def test_a_change_that_git_was_told_not_to_see_is_found(recorded, capsys):
    recorded.git("update-index", "--assume-unchanged", "dvc.lock")
    recorded.replace("dvc.lock", "schema:", "# a comment\nschema:")
    assert recorded.verify(capsys).faulty() == {"lock"}


def test_a_lock_that_was_never_committed_is_different(recorded, capsys):
    recorded.git("rm", "--quiet", "--cached", "dvc.lock")
    recorded.git("commit", "--quiet", "--message", "without the lock")
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.fault("dvc.lock") == (
        "lock, different: dvc.lock\n  expected the committed one; found none in HEAD\n  commit it"
    )


def test_outside_a_git_repository_there_is_a_note(recorded, monkeypatch, capsys):
    shutil.rmtree(recorded.root / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(recorded.root.parent))
    verdict = recorded.verify(capsys)
    assert verdict.code == 0, verdict.printed
    assert "note: dvc.lock: not in a Git repository" in verdict.printed
    assert "lock" not in verdict.table
    assert verdict.printed.endswith(CLEAN)


def test_a_machine_without_git_is_told_so(recorded, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    verdict = recorded.verify(capsys)
    assert verdict.code == 0, verdict.printed
    assert "note: dvc.lock: not compared with HEAD: Git is not installed" in verdict.printed


def test_a_repository_that_git_cannot_read_is_bad_input(recorded, capsys):
    (recorded.root / ".git" / "config").write_text("[core\n")
    verdict = recorded.verify(capsys)
    assert verdict.code == 2
    assert verdict.message.startswith("verify: dvc.lock: cannot be compared with HEAD: git: ")
    assert verdict.message.count("\n") == 1


@pytest.mark.parametrize("path", ["pipeline/apps/stage.py", "pipeline/invented.py", "stages/invented.py"])
def test_code_that_is_not_committed_is_noted(path, recorded, capsys):
    with (recorded.root / path).open("a") as file:
        file.write("# a thought\n")
    verdict = recorded.verify(capsys)
    assert verdict.code == 0, verdict.printed
    assert f"note: code is not as in HEAD in 1 files, such as {path}; " in verdict.printed
    assert verdict.printed.endswith(CLEAN)
