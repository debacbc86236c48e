"""Checkpoints are continued only where they are whole and of the same training; a full disk costs no training."""

import hashlib
import logging
import shutil
from pathlib import Path

import pytest

from pipeline.io.errors import UserError
from pipeline.methods.loop.checkpoints import SEAL, Checkpoints, updates_between

PARTS = {"parameters": "a", "data": "b", "code": "c"}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", PARTS, every=5)


def fill(folder: Path) -> None:
    """Write what a training might."""
    (folder / "weights.safetensors").write_bytes(b"weights" * 100)
    (folder / "inner").mkdir()
    (folder / "inner" / "state.json").write_text("{}")


def test_without_a_checkpoint_a_training_begins_at_the_start(checkpoints):
    assert checkpoints.latest() is None


def test_the_newest_is_continued_and_the_older_gone(checkpoints):
    for step in (5, 10, 100):
        checkpoints.keep(step, fill)
    latest = checkpoints.latest()
    assert latest is not None and latest.step == 100
    assert {path.relative_to(latest.folder).as_posix() for path in latest.folder.rglob("*") if path.is_file()} == {
        "weights.safetensors",
        "inner/state.json",
        SEAL,
    }
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000100"]


@pytest.mark.parametrize("part", sorted(PARTS))
def test_one_of_another_training_is_named_and_kept(part, checkpoints, caplog):
    checkpoints.keep(5, fill)
    other = Checkpoints(checkpoints.folder.parent, PARTS | {part: "other"}, every=5)
    with caplog.at_level(logging.WARNING):
        assert other.latest() is None
    assert f"of a training with other {part}; kept, not continued" in caplog.text and "step-000005" in caplog.text
    other.keep(5, fill)
    other.clear()
    latest = checkpoints.latest()
    assert latest is not None and latest.step == 5, "it goes on when the old conditions are back"


def cut(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip(folder: Path) -> None:
    path = folder / "inner" / "state.json"
    path.write_text("[]")


DAMAGES = {
    "a file cut short": cut,
    "a file of other content": flip,
    "a file missing": lambda folder: (folder / "weights.safetensors").unlink(),
    "no seal": lambda folder: (folder / SEAL).unlink(),
    "an empty seal": lambda folder: (folder / SEAL).write_text(""),
    "a seal of another kind": lambda folder: (folder / SEAL).write_text('{"parts": 3}'),
    "an unsealed pickle": lambda folder: (folder / "optimizer.pt").write_bytes(b"not sealed"),
    "a link in place of a file": lambda folder: relink(folder / "weights.safetensors"),
}


def relink(path: Path) -> None:
    other = path.parents[3] / "other"
    path.rename(other)
    path.symlink_to(other)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_one_that_is_not_as_it_was_sealed_is_not_continued(damage, checkpoints):
    checkpoints.keep(5, fill)
    damage(checkpoints.folder / "step-000005")
    assert checkpoints.latest() is None


def test_an_older_one_that_is_whole_stands_in_for_a_damaged_newer_one(checkpoints):
    checkpoints.keep(5, fill)
    older = checkpoints.folder / "step-000005"
    shutil.copytree(older, checkpoints.folder / "kept")
    checkpoints.keep(10, fill)
    (checkpoints.folder / "kept").rename(older)  # killed before it was removed
    cut(checkpoints.folder / "step-000010")
    latest = checkpoints.latest()
    assert latest is not None and latest.step == 5


def test_what_could_not_be_written_costs_one_warning_and_the_earlier_stays(checkpoints, caplog):
    checkpoints.keep(5, fill)

    def fails(folder: Path) -> None:
        fill(folder)
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING):
        checkpoints.keep(10, fails)
        checkpoints.keep(15, fails)
    assert len(caplog.records) == 1 and "No space left" in caplog.text
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-000005"]
    latest = checkpoints.latest()
    assert latest is not None and latest.step == 5


def test_they_come_at_the_interval_and_at_the_end(checkpoints):
    assert [step for step in range(1, 13) if checkpoints.is_due(step, last=12)] == [5, 10, 12]
    assert not any(Checkpoints(checkpoints.folder, PARTS, every=0).is_due(step, last=12) for step in range(1, 13))


def test_what_is_known_of_an_execution_is_there_for_the_next(checkpoints, tmp_path):
    assert checkpoints.execution() == {}
    checkpoints.note(run_id="abc")
    checkpoints.note(run_id="abd")
    metrics = tmp_path / "ppo.json"
    metrics.write_text("{}")
    checkpoints.note_finished(metrics)
    again = Checkpoints(checkpoints.folder.parent, PARTS, every=5)
    assert again.execution() == {"run_id": "abd", "left": hashlib.md5(b"{}").hexdigest()}
    again.clear()
    again.clear()
    assert checkpoints.execution() == {} and not checkpoints.folder.exists()


@pytest.mark.parametrize(("value", "expected"), [(None, 5), ("", 5), ("0", 0), ("12", 12)])
def test_the_interval_comes_from_the_environment(value, expected, monkeypatch):
    monkeypatch.delenv("CHECKPOINT_EVERY", raising=False)
    if value is not None:
        monkeypatch.setenv("CHECKPOINT_EVERY", value)
    assert updates_between() == expected


@pytest.mark.parametrize("value", ["-1", "often", "2.5", "²"])
def test_an_interval_that_is_none_is_refused(value, monkeypatch):
    monkeypatch.setenv("CHECKPOINT_EVERY", value)
    with pytest.raises(UserError, match="CHECKPOINT_EVERY: expected a number of updates"):
        updates_between()
