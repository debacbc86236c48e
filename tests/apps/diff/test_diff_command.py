"""`python -m pipeline.apps.diff`: what it prints of parameters, decisions and numbers, and how it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.apps.diff.__main__ import main
from tests.apps.diff.conftest import EXPERIMENT, PARAMETERS, Repository
from tests.tracking import evaluated

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give text room, so that no line is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of Markdown tables."""
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in text.splitlines() if line[:1] == "|"]


class TestParameters:
    def test_dotted_keys_old_and_new(self, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        changed = {"methods": {"dpo": {"beta": 0.3}}, "scorers": PARAMETERS["scorers"], "lora": {"r": 8}}
        repository.parameters(changed)
        found = rows(printed(capsys, "HEAD", "--markdown"))
        assert ["methods.dpo.beta", "0.1", "0.3"] in found
        assert ["methods.dpo.epochs", "2", "-"] in found
        assert ["lora.r", "-", "8"] in found
        assert len(found) == 2 + 3

    def test_a_method_whose_section_stood_beside_all_others_is_the_same_method(
        self, repository: Repository, capsys: pytest.CaptureFixture[str]
    ) -> None:
        repository.parameters({"dpo": PARAMETERS["methods"]["dpo"], "scorers": PARAMETERS["scorers"]})
        repository.commit()
        repository.parameters()
        assert "Nothing changed." in printed(capsys, "HEAD")
        repository.parameters(PARAMETERS | {"methods": {"dpo": {"beta": 0.3, "epochs": 2}}})
        assert [row for row in rows(printed(capsys, "HEAD", "--markdown")) if row[0].startswith("methods")] == [
            ["methods.dpo.beta", "0.1", "0.3"]
        ]

    def test_what_the_roster_spells_out_is_no_change_of_its_own(
        self, repository: Repository, capsys: pytest.CaptureFixture[str]
    ) -> None:
        repository.write("params.yaml", {"experiments": [EXPERIMENT], "seeds": [0], "policies": ["reference", "sft"]})
        repository.commit()
        repository.roster(EXPERIMENT)
        assert "Nothing changed." in printed(capsys, "HEAD")

    def test_experiments_that_came_and_went(self, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        repository.roster("another")
        repository.parameters(experiment="another")
        text = printed(capsys, "HEAD")
        assert "Added to the roster." in text and "Removed from the roster." in text
        assert text.index("another") < text.index("Added")

    def test_words_of_a_list_are_counted_not_shown(
        self, repository: Repository, capsys: pytest.CaptureFixture[str]
    ) -> None:
        repository.parameters({**PARAMETERS, "scorers": {"words": {"keywords": ["darn", "silly", "goose"]}}})
        text = printed(capsys, "HEAD", "--markdown")
        assert ["scorers.words.keywords", "2 texts", "3 texts"] in rows(text)
        assert "goose" not in text

    def test_long_values_are_shown_where_they_differ(
        self, repository: Repository, capsys: pytest.CaptureFixture[str]
    ) -> None:
        repository.parameters({"data": {"uri": "x" * 300 + "first" + "y" * 300}})
        repository.commit()
        repository.parameters({"data": {"uri": "x" * 300 + "second" + "y" * 300}})
        (row,) = [row for row in rows(printed(capsys, "HEAD", "--markdown")) if row[0] == "data.uri"]
        assert "first" in row[1] and "second" in row[2]
        assert max(map(len, row)) < 80

    def test_a_value_cannot_break_the_page(self, repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
        repository.parameters({"note": "<img src=x> | @somebody"})
        text = printed(capsys, "HEAD", "--markdown")
        assert "<img" not in text and " | @" not in text and "@somebody" not in text
        assert all(len(row) == 3 for row in rows(text))


def test_decisions_of_both_sides(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    toxicity = {"reference": 0.3, "sft": 0.2, "dpo": 0.25}
    repository.evaluation(toxicity=toxicity)
    repository.commit()
    repository.evaluation(toxicity=toxicity, failed={"sft": "distinct_2"}, champion="dpo")
    found = rows(printed(capsys, "HEAD", "--markdown"))
    assert ["champion", "sft, seed 0", "dpo, seed 0"] in found
    assert ["sft: verdict", "win", "not a win"] in found
    assert ["sft: guards", "passed", "failed: distinct_2"] in found


def test_numbers_beyond_noise_come_first_and_others_are_folded(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.evaluation(toxicity={"reference": 0.3, "sft": 0.2, "dpo": 0.25})
    repository.commit()
    repository.evaluation(toxicity={"reference": 0.3, "sft": 0.1, "dpo": 0.249})
    text = printed(capsys, "HEAD", "--markdown")
    moved, folded = text.split("<details>")
    assert ["sft", "toxicity by minilm", "0.2", "0.1", "-0.1 [-0.14, -0.058]", "**yes**, independent"] in rows(moved)
    assert "dpo" not in moved
    assert any(row[0] == "dpo" and row[-1] == "no, independent" for row in rows(folded))
    plain = printed(capsys, "HEAD")
    assert "yes, independent" in plain and "no, independent" in plain


def test_an_evaluation_from_before_verdicts_is_compared(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    older = evaluated.evaluation({"reference": 0.3, "sft": 0.2})
    for key in ("champion", "comparisons", "baselines", "agreement"):
        del older[key]
    for key in ("guard_checks", "verdict", "hacking", "categories"):
        del older["sft"][key]
    evaluated.leave(EXPERIMENT, older)
    repository.commit()
    repository.evaluation(toxicity={"reference": 0.3, "sft": 0.1})
    found = rows(printed(capsys, "HEAD", "--markdown"))
    assert ["champion", "-", "sft, seed 0"] in found
    assert ["sft: verdict", "-", "win"] in found
    assert any(row[:2] == ["sft", "toxicity by minilm"] for row in found)


def test_one_side_without_an_evaluation(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    commit = repository.git("rev-parse", "--short", "HEAD")
    repository.evaluation(toxicity={"reference": 0.3})
    assert f"not evaluated in HEAD ({commit})" in printed(capsys, "HEAD")


def test_two_commits_by_any_name_and_nothing_of_the_workspace(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.git("tag", "before")
    repository.parameters({"methods": {"dpo": {"beta": 0.5}}})
    after = repository.commit()
    repository.parameters({"methods": {"dpo": {"beta": 0.9}}})
    text = printed(capsys, "before", after)
    assert "0.5" in text and "0.9" not in text
    assert "Nothing changed." in printed(capsys, after, "HEAD")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere: expected a commit"),
        (["--", "--all"], "--all: expected a commit"),
        (["HEAD", "HEAD", "--experiment", "other"], "--experiment: expected one of exp, got 'other'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    repository: Repository, capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_a_broken_file_is_named_with_its_commit(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    path = evaluated.paths.metrics(EXPERIMENT, "evaluation")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    repository.commit()
    path.write_text("{}")
    with pytest.raises(SystemExit):
        main(["HEAD"])
    assert f":{path}: expected one JSON object" in capsys.readouterr().err


def test_it_runs_as_a_module(repository: Repository) -> None:
    command = [sys.executable, "-m", "pipeline.apps.diff", "HEAD"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing changed." in done.stdout
