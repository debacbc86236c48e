"""The environment is what the lock says, and the commands do what the README promises."""

import re
import stat
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.apps import environment
from pipeline.io import records


def requirement_lines(path):
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def test_env_json_names_the_installed_versions(root):
    assert records.read_json(root / environment.FILE) == environment.installed(), "run `make lock`"


def test_the_lock_pins_everything_and_names_no_index(root):
    for line in requirement_lines(root / "requirements.txt"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line), f"expected NAME==VERSION, got {line}"


def test_the_lock_holds_what_requirements_in_asks_for(root):
    locked = dict(line.split("==") for line in requirement_lines(root / "requirements.txt"))
    locked = {canonicalize_name(name): version for name, version in locked.items()}
    for line in requirement_lines(root / "requirements.in"):
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[canonicalize_name(wanted.name)]), f"run `make lock`: {line}"


def test_the_installed_packages_are_those_of_the_lock(root):
    from importlib.metadata import version

    locked = dict(line.split("==") for line in requirement_lines(root / "requirements.txt"))
    differing = {name: version(name) for name, pin in locked.items() if version(name).partition("+")[0] != pin}
    assert differing == {}


@pytest.mark.parametrize("target", ["repro", "train", "ui", "track", "test", "test-slow", "check", "clean", "lock"])
def test_make_help_lists_the_target(target, root):
    listed = subprocess.run(["make", "help"], cwd=root, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^ *make {target} +\w", listed, flags=re.MULTILINE)


def test_make_without_python_names_the_remedy(root, tmp_path):
    for name in ("Makefile", "requirements.txt"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    made = subprocess.run(
        ["make", "setup", "PYTHON=python-that-is-not-there"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert made.returncode != 0
    assert "install Python 3.11" in made.stderr
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_what_a_developer_runs(root):
    script = root / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    workflow = (root / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    for command in ("make check", "make test", "make test-slow"):
        assert re.search(rf"^{command}$", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert "run: .ci/run\n" in workflow


def test_tests_ask_no_hub():
    from huggingface_hub import constants

    assert constants.HF_HUB_OFFLINE, "the library read its environment before tests/conftest.py set it"


def test_dvc_state_is_in_a_folder_that_only_its_owner_writes(root):
    from dvc.config import Config

    state = root / Config(str(root / ".dvc"), validate=True)["core"]["site_cache_dir"]
    folder = state / "repo"
    # DVC makes missing folders writable for everyone (CVE-2025-69872): Git must have made them first
    assert (folder / ".gitignore").is_file()
    assert not any(path.stat().st_mode & stat.S_IWOTH for path in (state, folder))
