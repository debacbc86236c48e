"""params.yaml gains an experiment without losing a comment, and nothing is written when the experiment is wrong."""

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.apps import roster
from pipeline.config.roster import load_roster
from tests.smoke import workspace

ROOT = Path(__file__).resolve().parents[2]
LISTS = """# what is built
experiments: # by name
  - smollm2-rtp # the default
seeds:
  - 0
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Make a repository of two experiments, one of them in a roster that is spelled out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "experiments").mkdir()
    for name in ("smollm2-rtp", "other"):
        shutil.copy(ROOT / "experiments" / "smollm2-rtp.yaml", tmp_path / "experiments" / f"{name}.yaml")
    write(LISTS)
    roster.main(["spell-out"])
    return tmp_path


def write(text):
    Path("params.yaml").write_text(text, encoding="utf-8")


def text():
    return Path("params.yaml").read_text(encoding="utf-8")


def name_only(experiment, *methods):
    """Leave these methods in the file of an experiment."""
    file = Path("experiments", f"{experiment}.yaml")
    parameters = yaml.safe_load(file.read_text(encoding="utf-8"))
    parameters["methods"] = {method: parameters["methods"][method] for method in methods}
    file.write_text(yaml.safe_dump(parameters), encoding="utf-8")


def test_a_missing_experiment_is_added_and_every_comment_stays(repository, capsys):
    roster.main(["add", "other"])
    assert load_roster().experiments == ["smollm2-rtp", "other"]
    lists, _, derived = text().partition(f"\n{roster.HEADING}")
    assert lists == LISTS.replace("# the default\n", "# the default\n  - other\n")
    assert derived.startswith("trainings:\n") and "#" not in derived
    assert yaml.safe_load(text()) == workspace.roster(["smollm2-rtp", "other"])
    assert "added other" in capsys.readouterr().out


def test_a_named_experiment_changes_nothing_and_says_nothing(repository, capsys):
    before = text()
    roster.main(["add", "smollm2-rtp"])
    roster.main(["spell-out"])
    assert text() == before
    assert capsys.readouterr().out == ""


def test_what_is_spelled_out_is_one_line_an_entry_and_read_as_it_stands(repository):
    write(LISTS.replace("  - 0", "  - 0\n  - 12"))
    roster.main(["spell-out"])
    assert yaml.safe_load(text()) == workspace.roster(["smollm2-rtp"], [0, 12])
    assert "    smollm2-rtp-12: { experiment: smollm2-rtp, seed: 12 }\n" in text()
    assert "  smollm2-rtp-12-dpo: { experiment: smollm2-rtp, seed: 12, policy: dpo }\n" in text()
    assert load_roster().policies_of("smollm2-rtp") == ["reference", "sft", "ppo", "dpo"]
    assert load_roster().policies_of("other") == []


def test_policies_are_in_the_order_of_the_methods_however_they_are_written(repository):
    lines = text().splitlines(keepends=True)
    write(
        "".join(
            [*(line for line in lines if "policy:" not in line), *sorted(line for line in lines if "policy:" in line)]
        )
    )
    assert load_roster().policies_of("smollm2-rtp") == ["reference", "sft", "ppo", "dpo"]


@pytest.mark.parametrize(
    "stale",
    ["", "policies: [reference, sft]\n", "trainings: {}\npolicies: {}\n", "trainings: {sft: {x-0: {}}}\npolicies: 7\n"],
    ids=["absent", "as it was written before", "empty", "nonsense"],
)
def test_whatever_stands_below_the_lists_is_replaced(stale, repository):
    expected = text()
    write(LISTS + stale)
    roster.main(["spell-out"])
    assert text() == expected


def test_a_method_that_an_experiment_names_no_more_is_left_out_for_that_experiment_alone(repository):
    roster.main(["add", "other"])
    name_only("other", "dpo")
    roster.main(["spell-out"])
    found = load_roster()
    assert found.policies_of("other") == ["reference", "dpo"]
    assert found.policies_of("smollm2-rtp") == ["reference", "sft", "ppo", "dpo"]
    entries = {method: list(found.trainings[method]) for method in found.trainings}
    alone, both = ["smollm2-rtp-0"], ["smollm2-rtp-0", "other-0"]
    assert entries == {"sft": alone, "ppo": alone, "dpo": both}


def test_an_experiment_without_methods_has_its_reference_and_every_method_stays_a_key(repository):
    name_only("smollm2-rtp")
    roster.main(["spell-out"])
    found = load_roster()
    assert found.trainings == {"sft": {}, "ppo": {}, "dpo": {}}, "DVC asks for each of them"
    assert list(found.policies) == ["smollm2-rtp-0-reference"]


@pytest.mark.parametrize(
    ("experiment", "content", "expected"),
    [
        ("absent", None, "experiments/absent.yaml: not found; there are: other, smollm2-rtp"),
        ("empty", "model: {}\n", "experiments/empty.yaml: data: missing"),
    ],
)
def test_an_experiment_that_cannot_be_built_is_refused(experiment, content, expected, repository, capsys):
    before = text()
    if content is not None:
        (repository / "experiments" / f"{experiment}.yaml").write_text(content)
    with pytest.raises(SystemExit) as exit_:
        roster.main(["add", experiment])
    assert exit_.value.code == 2
    assert expected in capsys.readouterr().err
    assert text() == before


def test_entries_are_those_of_the_experiment_and_the_seeds_of_the_roster(repository, capsys):
    write(LISTS.replace("  - 0", "  - 0\n  - 12"))
    roster.main(["spell-out"])
    roster.main(["entries", "train_dpo", "other"])
    assert capsys.readouterr().out.split() == ["train_dpo@other-0", "train_dpo@other-12"]


def test_entries_of_all_trainings_are_those_of_the_methods_that_the_experiment_names(repository, capsys):
    name_only("other", "dpo", "sft")
    roster.main(["entries", "train", "other"])
    assert capsys.readouterr().out.split() == ["train_sft@other-0", "train_dpo@other-0"]
