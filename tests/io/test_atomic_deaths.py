"""What killed, dying and interrupted writers leave, and what the next start makes of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.io.atomic import replacing, replacing_folder, together
from tests.io.on_disk import contents, dead_process, temporaries

ROOT = Path(__file__).resolve().parents[2]

# Writes a folder and a file together; before the N-th call that touches the file system it is killed.
WRITER = """
import os, signal, sys
from pathlib import Path
from pipeline.io.atomic import replacing, replacing_folder, together

left, text, end = int(sys.argv[1]), sys.argv[2], sys.argv[3]

def kill_in_time(event, _):
    global left
    if event in {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "shutil.rmtree"}:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill_in_time)
with together():
    with replacing_folder(Path("out/folder")) as folder:
        (folder / "inner").mkdir()
        for name in ("a", "inner/b"):
            (folder / name).write_text(text)
    with replacing(Path("out/file")) as file:
        file.write_text(text)
    if end == "fails":
        raise SystemExit(3)
"""
OUTPUTS = ("folder/a", "folder/inner/b", "file")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(left: int, text: str, end: str = "succeeds") -> int:
    """Run the writer and return its exit status."""
    command = [sys.executable, "-S", "-c", WRITER, str(left), text, end]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, map(site, sys.path))])}
    return subprocess.run(command, env=surroundings, check=False).returncode


def site(path: str) -> str:
    return path if path.endswith("site-packages") else ""


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def replace_once() -> None:
    with replacing(Path("file")) as file:
        file.write_text("new")


def test_what_a_living_process_writes_is_left_alone(sleeper: int) -> None:
    Path(f".file.{sleeper}.tmp").write_text("at work")
    replace_once()
    assert contents() == {f".file.{sleeper}.tmp": "at work", "file": "new"}


def test_a_process_that_inherited_the_number_of_a_dead_one_protects_nothing(sleeper: int) -> None:
    stale = Path(f".file.{sleeper}.tmp")
    stale.write_text("stale")
    os.utime(stale, (0, 0))
    own = Path(f".file.{os.getpid()}.tmp")  # as in a container, where the same number comes again and again
    own.mkdir()
    (own / "stale").write_text("stale")
    replace_once()
    assert contents() == {"file": "new"}


def test_a_dead_process_that_nobody_waited_for_protects_nothing() -> None:
    process = subprocess.Popen(["sleep", "60"])
    Path(f".file.{process.pid}.tmp").write_text("stale")
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    replace_once()
    process.wait()
    assert contents() == {"file": "new"}


def test_what_was_moved_away_is_given_back_where_the_next_process_fails_too() -> None:
    previous = Path(f".folder.{dead_process()}.old.tmp")
    previous.mkdir()
    (previous / "a").write_text("old")
    with pytest.raises(ValueError), replacing_folder(Path("folder")):
        raise ValueError
    assert contents() == {"folder/a": "old"}


def test_a_kill_at_any_point_leaves_old_or_new_and_the_next_start_makes_it_whole() -> None:
    """SIGKILL before each file system call of a writer: in the middle of writing, of the swap, of the clearing up."""
    assert start(10_000, "old") == 0
    old = {f"out/{name}": "old" for name in OUTPUTS}
    new = dict.fromkeys(old, "new")
    assert contents() == old
    seen = set()
    for point in range(200):
        status = start(point, "new")
        seen.add(between(contents()))
        # One that writes again and fails gives back what was there before, be it old or new.
        assert start(10_000, "other", "fails") == 3
        assert temporaries() == []
        there = contents()
        for part in ("out/folder", "out/file"):
            texts = {text for path, text in there.items() if path.startswith(part)}
            assert texts in ({"old"}, {"new"}), f"killed before call {point}: {there}"
        assert set(there) == set(old)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert start(10_000, "old") == 0 and contents() == old
    else:
        pytest.fail("never ended by itself")
    assert contents() == new
    assert {"untouched", "folder away", "mixed", "new"} <= seen, "the kills missed a part of it"


def between(there: dict[str, str]) -> str:
    """Name the state that a killed writer left."""
    visible = {path: text for path, text in there.items() if not re.search(r"\.tmp(/|$)", path)}
    if not any(path.startswith("out/folder") for path in visible):
        return "folder away"
    assert "out/file" in visible, "a file that is replaced by a file is never absent"
    texts = set(visible.values())
    return "mixed" if len(texts) > 1 else {"old": "untouched", "new": "new"}[texts.pop()]


def test_an_interruption_between_two_outputs_changes_nothing() -> None:
    """Ctrl-C, as an exception before each of the three renames and links of two outputs that take their places."""
    Path("out").mkdir()
    Path("out/file").write_text("old")
    sys.addaudithook(_interrupt)
    for point in range(3):
        with pytest.raises(KeyboardInterrupt):
            write_both(point)
        assert contents("out") == {"file": "old"}
    write_both(3)
    assert contents("out") == {"file": "new", "folder/a": "new"}


LEFT = [-1]  # calls until the interruption; an audit hook cannot be taken away, so this switches it off


def _interrupt(event: str, _: object) -> None:
    if event in {"os.rename", "os.link"} and LEFT[0] >= 0:
        LEFT[0] -= 1
        if LEFT[0] < 0:
            raise KeyboardInterrupt


def write_both(point: int) -> None:
    try:
        with together():
            with replacing(Path("out/file")) as file:
                file.write_text("new")
            with replacing_folder(Path("out/folder")) as folder:
                (folder / "a").write_text("new")
            LEFT[0] = point
    finally:
        LEFT[0] = -1
