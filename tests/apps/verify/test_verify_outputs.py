"""`make verify` reads bytes: what was changed, added or lost is named, with what gives it back."""

import os
import shutil
from pathlib import Path

import pytest

ADAPTER = "adapters/smoke/0/sft"
WEIGHTS = f"{ADAPTER}/adapter_model.safetensors"
SCORES = "scores/smoke/0/ppo.jsonl"
METRICS = "metrics/smoke/evaluation.json"
CLEAN = "verify: all is as recorded"


def turn_a_bit(path: Path) -> None:
    """Change one byte in place; size, times and inode stay."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def tree(root: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of every file; Git refreshes its index by itself."""
    found = {path: path.stat() for path in root.rglob("*") if path.is_file() and path.name != "index"}
    return {path: (stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def test_a_finished_run_is_as_recorded_and_verifying_writes_nothing(recorded, capsys):
    before = tree(recorded.root)
    verdict = recorded.verify(capsys)
    assert verdict.code == 0, verdict.printed
    assert verdict.faulty() == set()
    assert verdict.printed.endswith(f"{CLEAN}\n")
    assert "note: " not in verdict.printed
    assert verdict.message == ""
    assert tree(recorded.root) == before
    # the groups hold what they are named for: the lock, its 21 entries, three adapters, the evaluation, five plots
    assert [verdict.row(group)[0] for group in ("lock", "stages", "adapters", "metrics")] == [1, 21, 3, 6]


def test_a_changed_byte_that_dvc_cannot_see_is_found_and_the_remedy_works(recorded, capsys):
    assert "up to date" in recorded.dvc("status")
    turn_a_bit(recorded.root / WEIGHTS)
    assert "up to date" in recorded.dvc("status"), "DVC sees it: this test no longer shows what it should"
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.faulty() == {"outputs", "adapters"}
    told = verdict.fault(ADAPTER)
    assert "(changed adapter_model.safetensors)" in told
    assert told.endswith(f"remove it, then `dvc checkout {ADAPTER}`")
    digest = recorded.load("metrics/smoke/0/sft.json")["adapter_sha256"]
    assert f"expected sha256 {digest}" in verdict.fault(f"{ADAPTER} as in metrics/smoke/0/sft.json")
    shutil.rmtree(recorded.root / ADAPTER)
    recorded.dvc("checkout", ADAPTER)
    assert recorded.verify(capsys).code == 0


def test_a_file_added_to_an_output_folder_is_named(recorded, capsys):
    (recorded.root / ADAPTER / "notes.txt").write_text("x")
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert "(added notes.txt)" in verdict.fault(ADAPTER)


def test_what_dvcignore_leaves_out_changes_nothing(recorded, capsys):
    cache = recorded.root / "pipeline" / "sources" / "__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "made.cpython-311.pyc").write_bytes(b"x")
    assert recorded.verify(capsys).code == 0


def test_changed_code_names_the_stages_that_used_it(recorded, capsys):
    recorded.replace("stages/format.py", '"""', '"""Anew. ')
    verdict = recorded.verify(capsys)
    assert verdict.faulty() == {"inputs"}
    assert verdict.fault("stages/format.py").endswith("`git checkout -- stages/format.py`, or `dvc repro format@smoke`")


def test_an_output_that_is_not_here_is_missing_not_different(recorded, capsys):
    (recorded.root / "models/smoke/judge/card.json").unlink()
    shutil.rmtree(recorded.root / "models/smoke/judge")
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    assert verdict.faulty() == {"outputs"}
    assert verdict.row("outputs")[1:] == [1, 0]
    assert verdict.fault("models/smoke/judge").endswith("  `dvc checkout models/smoke/judge`")
    assert recorded.verify(capsys, "--allow-missing").code == 0
    recorded.dvc("checkout", "models/smoke/judge")
    assert recorded.verify(capsys).code == 0


def test_a_fresh_clone_lacks_outputs_and_is_otherwise_as_recorded(recorded, tmp_path, monkeypatch, capsys):
    recorded.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    verdict = recorded.verify(capsys, "--allow-missing")
    assert verdict.code == 0, verdict.printed
    assert "verify: all that is here is as recorded" in verdict.printed
    assert verdict.row("outputs")[1] > 20
    assert verdict.row("outputs")[2] == verdict.row("inputs")[2] == 0
    verdict = recorded.verify(capsys)
    assert verdict.code == 1
    # no cache and no remote: neither checkout nor pull would help
    assert verdict.fault(WEIGHTS.rpartition("/")[0]).endswith("  `dvc repro train_sft@smoke-0`")


def test_files_of_git_may_not_be_missing(recorded, capsys):
    (recorded.root / METRICS).unlink()
    verdict = recorded.verify(capsys, "--allow-missing")
    assert verdict.code == 1
    assert verdict.fault(METRICS, "outputs").endswith(f"`git checkout -- {METRICS}`")


def test_a_cache_that_lost_the_bytes_is_no_remedy(recorded, capsys):
    recorded.dvc("config", "--local", "core.remote", "somewhere")
    verdict = recorded.verify(capsys)
    assert verdict.code == 0, verdict.printed
    stored = [path for path in (recorded.root / ".dvc" / "cache").rglob("*") if path.is_file()]
    content = (recorded.root / SCORES).read_bytes()
    (kept,) = [path for path in stored if path.read_bytes() == content]
    kept.chmod(0o644)
    kept.write_bytes(content + b"\n")
    (recorded.root / SCORES).unlink()
    told = recorded.verify(capsys).fault(SCORES)
    assert told.endswith(f"`dvc pull {SCORES}`, else `dvc repro score@smoke-0-ppo`")


def test_what_cannot_be_read_is_bad_input(recorded, capsys):
    (recorded.root / ADAPTER / ".dvcignore").write_text("nothing\n")
    verdict = recorded.verify(capsys)
    assert verdict.code == 2
    assert verdict.message == f"verify: {ADAPTER}: expected no .dvcignore inside; remove it\n"


@pytest.mark.parametrize(
    "path", ["data/smoke/raw/prompts/prompts.jsonl", "models/smoke/base/config.json"], ids=["data", "checkpoint"]
)
def test_a_downloaded_file_that_changed_is_named_by_its_manifest_too(path, recorded, capsys):
    turn_a_bit(recorded.root / path)
    verdict = recorded.verify(capsys)
    assert verdict.faulty() >= {"outputs", "sources"}
    assert "sha256" in verdict.fault(path)
