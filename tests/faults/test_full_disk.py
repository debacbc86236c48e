"""A disk that fills up under an output: one clear line, the previous output intact, and a rerun that gives the same."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import _REMEDY, LONGEST_MESSAGE, Outcome
from tests.faults.small_disks import SmallDisks, small_disks, why_not
from tests.smoke.workspace import EXPERIMENT

PROBLEM = why_not()
pytestmark = pytest.mark.skipif(bool(PROBLEM), reason=PROBLEM)

TRAINED = (EXPERIMENT, "0")
POLICY = (EXPERIMENT, "0", "ppo")
SIZE = 2048  # KiB: room for every output twice
# stage, axes, where the disk is, the output that is named, KiB that are left: enough to begin, too little to end
CASES = [
    ("train_sft", TRAINED, "adapters", "adapters/smoke/0/sft", 0),
    ("train_sft", TRAINED, "adapters", "adapters/smoke/0/sft", 12),
    ("train_sft", TRAINED, "metrics", "metrics/smoke/0/sft.json", 0),
    ("train_sft", TRAINED, "plots", "plots/smoke/0/sft.csv", 0),
    ("train_dpo", TRAINED, "adapters", "adapters/smoke/0/dpo", 4),
    ("train_ppo", TRAINED, "adapters", "adapters/smoke/0/ppo", 8),
    ("train_ppo", TRAINED, "metrics", "metrics/smoke/0/ppo.json", 0),
    ("reference", TRAINED, "adapters", "adapters/smoke/0/reference", 0),
    ("preferences", TRAINED, "data", "data/smoke/preferences/0.jsonl", 4),
    ("complete", POLICY, "completions", "completions/smoke/0/ppo.jsonl", 0),
    ("complete", POLICY, "completions", "completions/smoke/0/ppo.jsonl", 8),
    ("score", POLICY, "scores", "scores/smoke/0/ppo.jsonl", 0),
    ("score", POLICY, "scores", "scores/smoke/0/ppo.jsonl", 4),
    ("probe", POLICY, "probes", "probes/smoke/0/ppo.jsonl", 0),
    ("evaluate", (EXPERIMENT,), "metrics", "metrics/smoke/evaluation.json", 0),
    ("evaluate", (EXPERIMENT,), "plots", "plots/smoke/", 4),
    ("evaluate", (EXPERIMENT,), "reports", "reports/smoke/", 0),
    ("judge", (EXPERIMENT,), "models", "models/smoke/judge", 0),
    ("format", (EXPERIMENT,), "data", "data/smoke/formatted/", 4),
    ("download", (EXPERIMENT,), "models", "models/smoke/", 8),
    ("download", (EXPERIMENT,), "data", "data/smoke/raw", 0),
]
# One of each kind of output; the others are slow tests.
QUICK = {("train_sft", 12), ("complete", 8), ("score", 4), ("train_ppo", 0), ("download", 8)}


@pytest.fixture(scope="module")
def namespace() -> Iterator[SmallDisks]:
    with small_disks() as disks:
        yield disks


@pytest.fixture
def disks(namespace: SmallDisks, workplace: Path) -> SmallDisks:
    """Return the small disks, at work in a copy of the finished repository."""
    namespace.enter(workplace, TRACKING="off", CHECKPOINT_EVERY="0")
    return namespace


@pytest.fixture
def disk(disks: SmallDisks, request: pytest.FixtureRequest) -> Iterator[str]:
    """Put a small disk under the folder that a test names."""
    disks.mount(request.param, SIZE)
    yield request.param
    disks.unmount(request.param)


def the_only_line(outcome: Outcome, stage: str) -> str:
    """Check that a stage was refused with one message that names a remedy, and return it."""
    assert outcome.code == 2 and "Traceback" not in outcome.stderr, outcome
    (message,) = [line for line in outcome.stderr.splitlines() if line.startswith(f"{stage}: ")]
    assert outcome.stderr.splitlines()[-1] == message, outcome.stderr
    assert _REMEDY.search(message) and len(message) < LONGEST_MESSAGE, message
    return message


def succeed(disks: SmallDisks, stage: str, *axes: str) -> str:
    """Run a stage that must succeed, and return what it said."""
    outcome = disks.run(stage, *axes)
    assert outcome.code == 0, outcome
    return outcome.stderr


@pytest.mark.parametrize(
    ("stage", "axes", "disk", "named", "left"),
    [
        pytest.param(
            *case,
            id=f"{case[0]}-{case[2]}-{case[4]}",
            marks=() if (case[0], case[4]) in QUICK else pytest.mark.slow,
        )
        for case in CASES
    ],
    indirect=["disk"],
)
def test_a_full_disk_costs_a_line_and_nothing_else(
    stage: str, axes: tuple[str, ...], disk: str, named: str, left: int, disks: SmallDisks
) -> None:
    finished = disks.outputs()
    disks.fill(disk, left)
    message = the_only_line(disks.run(stage, *axes), stage)
    assert named in message and "No space left on device" in message and "make room" in message, message
    assert disks.outputs() == finished  # hidden files too: no temporary is left
    disks.make_room(disk)
    succeed(disks, stage, *axes)
    assert disks.outputs() == finished


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "axes", "output", "disk"),
    [
        ("train_sft", TRAINED, "adapters/smoke/0/sft", "adapters"),
        ("complete", POLICY, "completions/smoke/0/ppo.jsonl", "completions"),
        ("score", POLICY, "scores/smoke/0/ppo.jsonl", "scores"),
        ("evaluate", (EXPERIMENT,), "metrics/smoke/evaluation.json", "metrics"),
    ],
    indirect=["disk"],
)
def test_where_there_was_no_output_there_is_none(
    stage: str, axes: tuple[str, ...], output: str, disk: str, disks: SmallDisks, workplace: Path
) -> None:
    finished = disks.outputs()
    disks.remove(output)
    disks.fill(disk, 4)
    the_only_line(disks.run(stage, *axes), stage)
    kept = {path: content for path, content in finished.items() if path != output and not path.startswith(f"{output}/")}
    assert disks.outputs() == kept
    disks.make_room(disk)
    succeed(disks, stage, *axes)
    assert disks.outputs() == finished


@pytest.mark.parametrize(
    "stage",
    ["train_ppo", *(pytest.param(name, marks=pytest.mark.slow) for name in ("train_sft", "train_dpo"))],
)
@pytest.mark.parametrize("disk", ["checkpoints"], indirect=True)
@pytest.mark.parametrize("left", [0, 40])
def test_a_checkpoint_that_cannot_be_written_costs_a_warning_and_no_training(
    stage: str, disk: str, left: int, disks: SmallDisks, workplace: Path
) -> None:
    disks.enter(workplace, CHECKPOINT_EVERY="1")
    finished = disks.outputs()
    disks.fill(disk, left)
    said = succeed(disks, stage, *TRAINED)
    assert said.count("no more checkpoints") == 1, said
    assert disks.outputs() == finished


@pytest.mark.parametrize("disk", [".locks"], indirect=True)
def test_a_lock_that_cannot_be_written(disk: str, disks: SmallDisks) -> None:
    finished = disks.outputs()
    disks.fill(disk)
    message = the_only_line(disks.run("score", *POLICY), "score")
    assert ".locks/score-smoke-0-ppo" in message and "make room" in message
    disks.make_room(disk)
    succeed(disks, "score", *POLICY)
    assert disks.outputs() == finished


@pytest.mark.slow
@pytest.mark.parametrize("disk", ["mlflow"], indirect=True)
def test_a_database_without_room_costs_no_result(disk: str, disks: SmallDisks, workplace: Path) -> None:
    """A store that is full at the start is refused; one that fills up later costs a warning."""
    disks.enter(workplace, TRACKING="on", MLFLOW_TRACKING_URI=f"sqlite:///{workplace}/{disk}/mlflow.db")
    finished = disks.outputs()
    succeed(disks, "score", *POLICY)
    seen = set()
    for left in (0, 8, 16, 32, 64, 128, 256):
        disks.fill(disk, left)
        outcome = disks.run("score", *POLICY)
        if outcome.code == 0:
            seen.add("warned" if "tracking: " in outcome.stderr else "logged")
        else:
            assert outcome.code == 2 and outcome.stderr.splitlines()[-1].startswith("score: tracking: "), outcome
            seen.add("refused")
        assert disks.outputs() == finished
        disks.make_room(disk)
    assert "refused" in seen and len(seen) > 1, seen
    assert "tracking: " not in succeed(disks, "score", *POLICY)
