"""A repository after a real `dvc repro` of the experiment `smoke`, its result committed; every test breaks a copy."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.apps.verify.__main__ import main
from tests.faults.conftest import run
from tests.smoke.workspace import EXPERIMENT, POLICIES, ROOT, Workspace, build


@dataclass(frozen=True)
class Verdict:
    """How `python -m pipeline.apps.verify` ended."""

    code: int
    printed: str
    message: str

    def row(self, group: str) -> list[int]:
        """Return the counts ok, missing and different of a group."""
        return self.table[group]

    @property
    def table(self) -> dict[str, list[int]]:
        """Return the counts of every group."""
        rows = [line.split() for line in self.printed.partition("\n\n")[0].splitlines()[2:]]
        return {group: [int(count) for count in counts] for group, *counts in rows}

    def faulty(self) -> set[str]:
        """Return the groups in which something is missing or different."""
        return {group for group, (_, *faults) in self.table.items() if any(faults)}

    def fault(self, thing: str, group: str = "") -> str:
        """Return what is told of one thing that is not as recorded: its heading, what was found, the remedy."""
        lines = self.printed.splitlines()
        found = [number for number, line in enumerate(lines) if line.partition(": ")[2] == thing]
        (start,) = [number for number in found if lines[number].startswith(group)]
        return "\n".join(lines[start : start + 3])


class Recorded(Workspace):
    """A working copy whose state is what its dvc.lock says."""

    def verify(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> Verdict:
        """Run the command here, in this process."""
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        captured = capsys.readouterr()
        return Verdict(int(str(ended.value.code)), captured.out, captured.err)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace the first occurrence of a text in a file."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        (self.root / path).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository in which every stage was run, recorded and committed; change nothing.

    The stages run in this process, as in tests/faults. What DVC then records is what `dvc repro` would have: the same
    dvc.lock, byte for byte.
    """
    workspace = build(tmp_path_factory.mktemp("verify") / "repository")
    shutil.copy(ROOT / "requirements.txt", workspace.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace.root)
        patch.setenv("TRACKING", "off")
        for stage, *axes in executions():
            outcome = run(stage, EXPERIMENT, *axes)
            assert outcome.code == 0, f"{stage} {axes}: {outcome.stderr}"
    workspace.dvc("commit", "--force")
    workspace.commit()
    return workspace.root


def executions() -> Iterator[tuple[str, ...]]:
    """Yield every stage with its seed and policy, in the order of the DAG."""
    yield from (("download",), ("format",), ("judge",))
    yield from ((stage, "0") for stage in ("reference", "preferences", "train_sft", "train_ppo", "train_dpo"))
    yield from ((stage, "0", policy) for stage in ("complete", "score", "probe") for policy in POLICIES)
    yield ("evaluate",)


@pytest.fixture
def recorded(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Return a copy of the finished repository, now the working directory."""
    shutil.copytree(finished, tmp_path / "repository")
    monkeypatch.chdir(tmp_path / "repository")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Recorded(tmp_path / "repository")
