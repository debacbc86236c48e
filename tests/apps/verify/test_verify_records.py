"""`make verify` holds dvc.yaml, parameters and environment against what was recorded of them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.smoke import workspace
from tests.smoke.workspace import ROOT

EXPERIMENT = "experiments/smoke.yaml"


@dataclass(frozen=True)
class Package:
    """What a Python that has `folder` on its path takes for the installed package `tabulate`."""

    folder: Path
    pin: str

    def write(self, version: str | None) -> None:
        """Say which version is installed; None leaves metadata without one."""
        line = "" if version is None else f"Version: {version}\n"
        metadata = f"Metadata-Version: 2.1\nName: tabulate\n{line}"
        (self.folder / "tabulate-0.dist-info" / "METADATA").write_text(metadata)


def rewrite_lock(recorded, change) -> None:
    """Let `change` edit the entries of dvc.lock."""
    lock = recorded.load("dvc.lock")
    change(lock["stages"])
    (recorded.root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def test_an_edited_parameter_is_named_with_both_values(recorded, capsys):
    parameters = recorded.load(EXPERIMENT)
    beta = parameters["methods"]["dpo"]["beta"]
    workspace.change(parameters, {"dpo": {"beta": 0.25}})
    recorded.edit(EXPERIMENT, **parameters)
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.faulty() == {"parameters"}
    told = verdict.fault(f"{EXPERIMENT}: methods, {EXPERIMENT}: methods.dpo")  # evaluate reads all methods
    assert f"expected methods.dpo.beta {beta}; found methods.dpo.beta 0.25" in told
    assert told.endswith("`dvc repro train_dpo@smoke-0`")


def test_a_number_in_exponential_form_is_the_number(recorded, capsys):
    recorded.replace(EXPERIMENT, "learning_rate: 0.01", "learning_rate: 1e-02")
    assert recorded.verify(capsys).code == 0


def test_another_layout_of_the_parameter_file_changes_nothing(recorded, capsys):
    parameters = dict(reversed(recorded.load(EXPERIMENT).items()))
    (recorded.root / EXPERIMENT).write_text("# a comment\n" + yaml.safe_dump(parameters, sort_keys=False))
    assert recorded.verify(capsys).code == 0


def test_words_of_a_list_are_not_printed(recorded, capsys):
    scorers = recorded.load(EXPERIMENT)["scorers"]
    scorers["letter"]["keywords"] = ["q", "darnation"]
    recorded.edit(EXPERIMENT, scorers=scorers)
    verdict = recorded.verify(capsys)
    assert "scorers.letter.keywords 2 texts" in verdict.printed
    assert "darnation" not in verdict.printed


@pytest.mark.parametrize(
    ("old", "new", "entry", "told"),
    [
        (
            "python -m stages.format",
            "python -O -m stages.format",
            "format@smoke",
            "expected cmd exec python -m stages.format smoke; found cmd exec python -O -m stages.format smoke",
        ),
        (
            "- stages/format.py",
            "- stages/format.py\n      - env.json",
            "format@smoke",
            "expected deps without env.json; found it in dvc.yaml",
        ),
        (
            "      - pipeline/sources/url.py\n",
            "",
            "download@smoke",
            "expected deps with pipeline/sources/url.py; found none of it in dvc.yaml",
        ),
        (
            "          - scorers\n",
            "",
            "download@smoke",
            "expected params with experiments/smoke.yaml:scorers; found none of it in dvc.yaml",
        ),
    ],
    ids=["command", "new dependency", "dropped dependency", "dropped parameters"],
)
def test_an_edited_stage_is_different(old, new, entry, told, recorded, capsys):
    recorded.replace("dvc.yaml", old, new)
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.faulty() == {"stages"}
    assert f"{told}\n  `dvc repro {entry}`" in verdict.fault(entry)


def test_a_stage_that_the_lock_lacks_is_missing_whatever_is_allowed(recorded, capsys):
    rewrite_lock(recorded, lambda entries: entries.pop("train_ppo@smoke-0"))
    verdict = recorded.verify(capsys, "--allow-missing")
    assert verdict.code == 1
    assert verdict.row("stages") == [20, 1, 0]
    assert verdict.fault("train_ppo@smoke-0").endswith("`dvc repro train_ppo@smoke-0`")


def test_an_entry_that_no_roster_names_is_only_noted(recorded, capsys):
    def add(entries) -> None:
        entries["format@old"] = entries["format@smoke"] | {"outs": [{"path": "data/old.jsonl", "md5": "0" * 32}]}

    rewrite_lock(recorded, add)
    recorded.commit()
    verdict = recorded.verify(capsys)
    assert verdict.code == 0, verdict.printed
    assert "holds 1 entries that params.yaml does not name, such as format@old" in verdict.printed
    assert "1 missing, 0 different" in verdict.printed
    assert "format@old" not in recorded.verify(capsys, "smoke").printed


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "not found"),
        ("stages: [", "expected YAML, got while parsing a flow node, "),
        ("a: b: c", "(line 1, column 5)"),
        ("a: &", "while scanning an anchor, "),
        ("\0", "at position 0"),
        ("- a\n", "expected a mapping"),
        ("schema: '1.0'\nstages: {}\n", "invalid schema version"),
        ("schema: '2.0'\nstages:\n  a@smoke:\n    deps: 1\n", "expected entries as DVC writes them"),
        ("schema: '2.0'\nstages:\n  a@smoke:\n    cmd: x\n    deps:\n    - path: a\n", "md5"),
        ("<<<<<<< ours\n", "expected a mapping"),
    ],
    ids=[
        "absent",
        "no YAML",
        "no YAML either",
        "two places",
        "no text",
        "a list",
        "old schema",
        "odd entry",
        "no hash",
        "merge conflict",
    ],
)
def test_a_lock_that_is_none_is_bad_input(content, named, recorded, capsys):
    (recorded.root / "dvc.lock").unlink()
    if content is not None:
        (recorded.root / "dvc.lock").write_text(content)
    verdict = recorded.verify(capsys)
    assert verdict.code == 2
    assert verdict.message.startswith("verify: dvc.lock: ")
    assert named in verdict.message
    assert "git checkout -- dvc.lock" in verdict.message
    assert verdict.message.count("\n") == 1
    assert verdict.message.count("line 1") <= 1 and "<unicode string>" not in verdict.message
    assert verdict.printed == ""


@pytest.mark.parametrize(
    ("path", "content", "named"),
    [
        (
            "dvc.yaml",
            "stages: {format: {matrix: {experiment: '${nowhere}'}, cmd: x}}",
            "verify: dvc.yaml: expected stages",
        ),
        ("dvc.yaml", "stages: {format: {cmd: x}}", "verify: dvc.yaml: expected stages with a matrix"),
        (EXPERIMENT, "[", f"verify: {EXPERIMENT}: expected YAML"),
        ("requirements.txt", "torch>=2\n", "verify: requirements.txt:1: expected NAME==VERSION, got 'torch>=2'"),
        ("requirements.txt", "# none\n==\n", "verify: requirements.txt:2: expected NAME==VERSION"),
        ("env.json", "{", "verify: env.json: expected one JSON object"),
        (".dvc/config", "[core\n", "verify: .dvc/config: "),
    ],
    ids=["no such roster", "no matrix", "parameters", "range", "no name", "env.json", "DVC's settings"],
)
def test_other_files_that_cannot_be_read_are_bad_input(path, content, named, recorded, capsys):
    (recorded.root / path).write_text(content)
    verdict = recorded.verify(capsys)
    assert verdict.code == 2
    assert verdict.message.startswith(named)
    assert verdict.message.count("\n") == 1


def test_an_unknown_experiment_is_bad_input(recorded, capsys):
    verdict = recorded.verify(capsys, "smock")
    assert verdict.code == 2
    assert "smock: expected experiments of params.yaml (smoke)" in verdict.message


def test_a_version_in_env_json_that_is_not_installed_is_different(recorded, capsys):
    versions = recorded.load("env.json")
    recorded.replace("env.json", versions["torch"], "1.0.0")
    verdict = recorded.verify(capsys)
    assert verdict.faulty() == {"environment", "inputs"}
    assert f"expected 1.0.0; found {versions['torch']}" in verdict.fault("env.json: torch")


@pytest.fixture
def tabulate(tmp_path) -> Package:
    """Return a package that the lock pins and verifying does not import, in a folder for the front of the path."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    (tmp_path / "packages" / "tabulate-0.dist-info").mkdir(parents=True)
    return Package(tmp_path / "packages", pins["tabulate"])


@pytest.mark.parametrize(
    ("version", "code", "told"),
    [
        ("{pin}+cpu", 0, ""),
        ("{pin}.post1", 1, "expected =={pin}; found {pin}.post1"),
        ("of today", 1, "expected =={pin}; found of today"),
        (None, 1, "expected =={pin}; found not installed"),
    ],
    ids=["a build", "a post release", "no version", "not there"],
)
def test_a_package_is_what_the_lock_pins(version, code, told, tabulate, recorded, monkeypatch, capsys):
    tabulate.write(version and version.format(pin=tabulate.pin))
    monkeypatch.syspath_prepend(tabulate.folder)
    verdict = recorded.verify(capsys)
    assert verdict.code == code, verdict.printed
    assert verdict.faulty() == ({"environment"} if code else set())
    assert not told or told.format(pin=tabulate.pin) in verdict.fault("tabulate")


def test_the_command_tells_of_a_package_of_another_version(tabulate, recorded):
    tabulate.write("0.0.1")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipeline.apps.verify"],
        cwd=recorded.root,
        env=recorded.surroundings(PYTHONPATH=os.pathsep.join([str(tabulate.folder), str(ROOT)])),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"environment, different: tabulate\n  expected =={tabulate.pin}; found 0.0.1\n  `make setup`" in done.stdout
    assert done.stderr == ""
