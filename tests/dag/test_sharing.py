"""A colleague's clone gets results without a run, and DVC leaves Git alone. By the `dvc` command, as a user runs it."""

import hashlib
import json
from pathlib import Path

import pytest

OUTPUTS = ("data", "models", "adapters", "completions", "scores", "probes", "metrics", "plots")


def digests(root: Path) -> dict[str, str]:
    files = [path for name in OUTPUTS for path in sorted((root / name).rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def committed(workspace):
    """Return the workspace with nothing to rerun and nothing to commit."""
    workspace.repro()
    workspace.commit()
    return workspace


@pytest.fixture
def clone(committed, tmp_path):
    """Yield a fresh clone that shares a folder remote with the workspace."""
    copy = type(committed)(tmp_path / "clone", committed.workshop)
    committed.git("clone", "--quiet", ".", str(copy.root))
    for place in (committed, copy):
        place.dvc("remote", "add", "--local", "--default", "folder", str(tmp_path / "remote"))
    yield copy
    committed.dvc("remote", "remove", "--local", "folder")


def test_push_and_pull_through_a_folder_bring_every_output_to_a_fresh_clone(committed, clone):
    committed.dvc("push")
    everything = digests(committed.root)
    in_git = {name for name in everything if name.startswith(("metrics/", "plots/"))}
    assert len(everything) > len(in_git) > 0
    assert set(digests(clone.root)) == in_git
    clone.dvc("pull")
    assert digests(clone.root) == everything
    assert "Data and pipelines are up to date." in clone.dvc("repro")


def test_outputs_are_ignored_by_git_without_nested_ignore_files(committed):
    (committed.root / "data" / "stray.jsonl").write_text("{}")
    assert committed.git("status", "--porcelain") == ""
    (committed.root / "data" / "stray.jsonl").unlink()
    ignore_files = {str(path.relative_to(committed.root)) for path in committed.root.rglob(".gitignore")}
    assert ignore_files == {".gitignore", ".dvc/.gitignore", ".dvc-state/repo/.gitignore"}


def test_metrics_of_a_fresh_clone_can_be_shown_and_compared(clone):
    shown = json.loads(clone.dvc("metrics", "show", "--json"))
    assert "metrics/smollm2-rtp/evaluation.json" in shown[""]["data"]
    assert json.loads(clone.dvc("metrics", "diff", "--json", "HEAD")) == {}


def test_dvc_state_stays_in_the_repository_and_only_its_owner_writes_there(committed):
    folders = list((committed.root / ".dvc-state").rglob("*"))
    assert any(path.name == "cache.db" for path in folders)
    assert not [path for path in folders if path.stat().st_mode & 0o022]
