"""The real DAG in a repository of its own: real dvc.yaml, parameters and code, with only every `cmd` replaced."""

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, TextIO
from unittest.mock import patch

import pytest
import yaml
from ruamel.yaml import YAML

from pipeline.config.roster import spelled_out
from pipeline.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = "smollm2-rtp"
GIT = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"]


class Workspace:
    """A DVC repository whose stages are stubs; `repro` returns which of them were executed."""

    def __init__(self, root: Path, workshop: Path) -> None:
        self.root = root
        self.workshop = workshop
        self.first: set[str] = set()
        self.methods = list(METHODS)

    def repro(self) -> set[str]:
        """Run `dvc repro` and return the executed stages as NAME:EXPERIMENT[:SEED[:POLICY]]."""
        log = self.workshop / "log.txt"
        log.write_text("")
        logging.getLogger("dvc").setLevel(logging.WARNING)
        with self.opened() as repo, yaml_by_libyaml():
            repo.reproduce()
        executed = log.read_text().split()
        assert len(executed) == len(set(executed)), f"executed twice in one repro: {executed}"
        return set(executed)

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield a fresh dvc.repo.Repo with its root as working directory, as a new `dvc` process would have."""
        from dvc.repo import Repo
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()  # where DVC stages folders: it would grow, and slow down, from run to run
        with chdir(self.root), Repo() as repo:
            yield repo

    def git(self, *arguments: str) -> str:
        return subprocess.run([*GIT, *arguments], cwd=self.root, check=True, capture_output=True, text=True).stdout

    def dvc(self, *arguments: str) -> str:
        """Run the `dvc` command as a user would and return what it printed."""
        command = [sys.executable, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        """Commit everything that Git does not ignore."""
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "--message", "built")

    def edit(self, path: str, **changed: Any) -> None:
        """Replace top-level values of a YAML file."""
        file = self.root / path
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changed}, sort_keys=False))

    def name(self, experiments: Sequence[str], seeds: Sequence[int]) -> None:
        """Write params.yaml with these experiments and seeds, everything spelled out as `make dag` does."""

        def methods(experiment: str) -> list[str]:
            return list(yaml.safe_load((self.root / "experiments" / f"{experiment}.yaml").read_text())["methods"])

        roster = {"experiments": list(experiments), "seeds": list(seeds)}
        roster |= spelled_out(experiments, seeds, self.methods, methods)
        (self.root / "params.yaml").write_text(yaml.safe_dump(roster, sort_keys=False))

    def write_dag(self) -> None:
        """Let the workspace's own code write its dvc.yaml, and replace every command."""
        command = [sys.executable, "-c", "from pipeline.apps.dag import dag; print(dag())"]
        text = subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout
        dag = yaml.safe_load(text)
        stages = {name: {**stage.get("do", stage), "axes": axes_of(stage)} for name, stage in dag["stages"].items()}
        (self.workshop / "stages.json").write_text(json.dumps(stages))
        (self.root / "dvc.yaml").write_text(yaml.safe_dump(with_stubs(dag, self.workshop), sort_keys=False))

    def keep_constant(self, *stages: str) -> None:
        """Let these stages write the same whatever they read."""
        (self.workshop / "constant.txt").write_text(" ".join(stages))


@contextmanager
def yaml_by_libyaml() -> Iterator[None]:
    """Let DVC read and write YAML through libyaml, without the comments that dvc.lock does not have.

    For every stage it executes, DVC reads and writes the whole dvc.lock with a parser in pure Python: .2 s each, nine
    tenths of these tests. That plain DVC reads the result is tested with the `dvc` command in test_sharing.py.
    """

    def load(_: YAML, text: str) -> Any:
        return yaml.load(text, yaml.CSafeLoader)

    def dump(_: YAML, data: Any, stream: TextIO) -> None:
        plain = json.loads(json.dumps(data))  # OrderedDict and its kin
        yaml.dump(plain, stream, yaml.CSafeDumper, sort_keys=False)

    with patch.object(YAML, "load", load), patch.object(YAML, "dump", dump):
        yield


def with_stubs(dag: dict[str, Any], workshop: Path) -> dict[str, Any]:
    """Return dvc.yaml with every command replaced, and nothing else."""
    stub = shutil.copy(ROOT / "tests" / "dag" / "stub.py", workshop)
    for name, stage in dag["stages"].items():
        axes = " ".join(f"${{item.{axis}}}" for axis in axes_of(stage))
        stage.get("do", stage)["cmd"] = f"{sys.executable} -I -S {stub} {workshop} {name} {axes}"
    return dag


def axes_of(stage: dict[str, Any]) -> list[str]:
    """Return what a stage's entries are told apart by."""
    if "matrix" in stage:
        return list(stage["matrix"])
    return ["experiment", "seed"] if "trainings" in stage["foreach"] else ["experiment", "seed", "policy"]


def make_workspace(folder: Path) -> Workspace:
    """Copy what the DAG consists of into a new repository with one experiment and one seed."""
    root, workshop = folder / "repository", folder / "workshop"
    workshop.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
    for name in ("pipeline", "stages", "experiments", ".dvc"):
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    (root / ".dvc-state" / "repo").mkdir(parents=True)
    for name in (".dvcignore", ".gitignore", "env.json", "params.yaml", "dvc.yaml", ".dvc-state/repo/.gitignore"):
        shutil.copy(ROOT / name, root / name)
    workspace = Workspace(root, workshop)
    workspace.write_dag()
    workspace.keep_constant()
    # dvc.yaml names whole sections: one value in each is enough, and DVC spends its time on reading parameters
    parameters = yaml.safe_load((root / "experiments" / f"{EXPERIMENT}.yaml").read_text())
    values: dict[str, Any] = {section: {"value": 0} for section in parameters}
    values["methods"] = {method: {"value": 0} for method in METHODS}
    workspace.edit(f"experiments/{EXPERIMENT}.yaml", **values)
    workspace.name([EXPERIMENT], [0])
    workspace.git("init", "--quiet")
    return workspace


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace in which everything is built and committed."""
    workspace = make_workspace(tmp_path_factory.mktemp("dag"))
    workspace.first = workspace.repro()
    workspace.commit()
    return workspace


@pytest.fixture
def workspace(built: Workspace) -> Iterator[Workspace]:
    """Yield the workspace as the last test left it, built: a test sees what *its* change adds.

    Taking every change back would cost as much as making it: DVC writes dvc.lock anew for each stage it restores.
    """
    yield built
    built.keep_constant()
