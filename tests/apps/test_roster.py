"""params.yaml gains an experiment without losing a comment, and nothing is written when the experiment is wrong."""

import shutil
from pathlib import Path

import pytest

from pipeline.apps import roster
from pipeline.config.roster import load_roster

ROOT = Path(__file__).resolve().parents[2]
ROSTER = """# what is built
experiments: # by name
  - smollm2-rtp # the default
seeds:
  - 0
policies: [reference, sft]
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    for name in ("smollm2-rtp", "other"):
        shutil.copy(ROOT / "experiments" / "smollm2-rtp.yaml", tmp_path / "experiments" / f"{name}.yaml")
    (tmp_path / "params.yaml").write_text(ROSTER)
    return tmp_path


def test_a_missing_experiment_is_added_and_every_comment_stays(repository, capsys):
    roster.main(["add", "other"])
    assert load_roster().experiments == ["smollm2-rtp", "other"]
    added = (repository / "params.yaml").read_text()
    assert added == ROSTER.replace("# the default\n", "# the default\n  - other\n")
    assert "added other" in capsys.readouterr().out


def test_a_named_experiment_changes_nothing_and_says_nothing(repository, capsys):
    roster.main(["add", "smollm2-rtp"])
    assert (repository / "params.yaml").read_text() == ROSTER
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("experiment", "content", "expected"),
    [
        ("absent", None, "experiments/absent.yaml: not found; there are: other, smollm2-rtp"),
        ("empty", "model: {}\n", "experiments/empty.yaml: data: missing"),
    ],
)
def test_an_experiment_that_cannot_be_built_is_refused(experiment, content, expected, repository, capsys):
    if content is not None:
        (repository / "experiments" / f"{experiment}.yaml").write_text(content)
    with pytest.raises(SystemExit) as exit_:
        roster.main(["add", experiment])
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err
    assert (repository / "params.yaml").read_text() == ROSTER


def test_entries_are_those_of_the_experiment_and_the_seeds_of_the_roster(repository, capsys):
    (repository / "params.yaml").write_text(ROSTER.replace("  - 0", "  - 0\n  - 12"))
    roster.main(["entries", "train_dpo", "other"])
    assert capsys.readouterr().out.split() == ["train_dpo@other-0", "train_dpo@other-12"]
