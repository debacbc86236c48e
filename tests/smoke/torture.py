"""Kill trainings of `smoke` again and again, and count what is lost: `make torture N=20`.

A training is started by `dvc repro`, killed with SIGKILL (the stage, dvc, or both), started again, and so on; at the
end its adapter, curves and metrics must be those of a training that nothing disturbed, to the byte, and MLflow must
show one run with every point once. Moments are drawn anew in each round, from the progress that was made and from time.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.io.records import write_json
from tests.smoke import store
from tests.smoke.stopping import PATIENCE, hear_everything, stages_of, wait_until
from tests.smoke.workspace import DVC, EXPERIMENT, Workspace, build

METHODS = ("sft", "ppo", "dpo")
UPDATES = {"sft": 300, "ppo": 60, "dpo": 300}  # enough that a moment in the middle is well before the end
RESULTS = ("adapters", "metrics", "plots")
VICTIMS = ("stage", "dvc", "both")
LONG = {
    "sft": {"epochs": UPDATES["sft"], "batch_size": 1000},
    "dpo": {"epochs": UPDATES["dpo"], "batch_size": 1000, "gradient_accumulation": 1},
    "ppo": {"steps": UPDATES["ppo"]},
}


@dataclass
class Tally:
    """What happened to the trainings of one method; `lost` names what was not as it should be."""

    trainings: int = 0
    kills: int = 0
    continued: int = 0  # starts that went on from a checkpoint
    lost: list[str] = field(default_factory=list)


def entry(method: str) -> str:
    """Return the name of the training in dvc.lock."""
    return f"train_{method}@{EXPERIMENT}-0"


def make_ready(root: Path) -> Workspace:
    """Return a working copy in which all that the trainings read is there, and each takes many updates."""
    workspace = build(root, **LONG)
    workspace.repro(f"preferences@{EXPERIMENT}-0", TRACKING="off")
    return workspace


def undisturbed(ready: Workspace, method: str) -> dict[str, str]:
    """Return the results of a training that nothing disturbs and that writes no checkpoint."""
    workspace = ready.copy(ready.root.with_name(f"undisturbed-{method}"))
    workspace.repro(entry(method), TRACKING="off", CHECKPOINT_EVERY="0")
    return workspace.outputs(*RESULTS)


@contextmanager
def started(workspace: Workspace, method: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `dvc repro` of the training as the leader of its own process group, and leave nothing of it behind."""
    environment = workspace.surroundings(CHECKPOINT_EVERY="2")
    with log.open("wb") as file:
        dvc = subprocess.Popen(
            [*DVC, "repro", entry(method)],
            cwd=workspace.root,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=hear_everything,
        )
    try:
        yield dvc
    finally:
        for process in stages_of(workspace, f"train_{method}"):
            process.kill()
        dvc.kill()
        dvc.wait()


def progress(log: Path, method: str) -> int:
    """Return the last update that the progress bar shows."""
    return max(
        (int(done) for done in re.findall(rf"\b(\d+)/{UPDATES[method]} ", log.read_text(errors="replace"))), default=0
    )


def kill(victim: str, dvc: "subprocess.Popen[bytes]", workspace: Workspace, method: str) -> None:
    """Send SIGKILL and wait until nothing of the training is alive."""
    if victim in ("dvc", "both"):
        dvc.kill()
    if victim in ("stage", "both"):
        for process in stages_of(workspace, f"train_{method}"):
            process.kill()
    dvc.wait(timeout=PATIENCE)
    wait_until(lambda: not stages_of(workspace, f"train_{method}"), "no orphan goes on")


def torture(ready: Workspace, method: str, expected: dict[str, str], moments: list[float], seed: int) -> Tally:
    """Kill one training at every one of the moments, let it end, and compare.

    A moment below 1 is a share of the updates; one of 1 or more is that many seconds after the start, less 1, whatever
    the training does then.
    """
    choose = random.Random(seed)
    tally = Tally(trainings=1)
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        workspace, log = ready.copy(Path(name) / "copy"), Path(name) / "log.txt"
        for moment in moments:
            with started(workspace, method, log) as dvc:
                await_moment(moment, method, dvc, log)
                time.sleep(choose.random() * 0.05)  # between two updates, or while a checkpoint is written
                if dvc.poll() is None:
                    kill(choose.choice(VICTIMS), dvc, workspace, method)
                    tally.kills += 1
            tally.continued += "continuing from" in log.read_text(errors="replace")
        with started(workspace, method, log) as dvc:
            status = dvc.wait(timeout=10 * PATIENCE)
        tally.continued += "continuing from" in log.read_text(errors="replace")
        tally.lost = losses(workspace, expected, method) if status == 0 else [f"exit status {status}: {tail(log)}"]
    return tally


def await_moment(moment: float, method: str, dvc: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until a moment has come, or the training has ended before it."""
    begun = time.monotonic()

    def has_come() -> bool:
        return (
            progress(log, method) >= moment * UPDATES[method] if moment < 1 else time.monotonic() - begun >= moment - 1
        )

    wait_until(lambda: has_come() or dvc.poll() is not None, "its moment has come")


def losses(workspace: Workspace, expected: dict[str, str], method: str) -> list[str]:
    """Return what differs from a training that nothing disturbed, and what was left lying about."""
    found = workspace.outputs(*RESULTS)
    lost = [
        f"{path} differs" for path in sorted(expected.keys() | found.keys()) if found.get(path) != expected.get(path)
    ]
    lost += [f"{path.name} is left" for path in workspace.root.rglob(".*.tmp")]
    left = len(list((workspace.root / "checkpoints").rglob("step-*")))  # the last one stays until DVC has recorded it
    lost += [f"{left} checkpoints are left"] if left != 1 else []
    runs = store.runs(store.uri(workspace.root))  # fails where a point was logged twice
    if [run.status for run in runs] != ["FINISHED"]:
        lost.append(f"MLflow runs: {[run.status for run in runs]}")
    steps = {name: sorted(points) for name, points in runs[-1].history.items() if name == "policy/loss"}
    if steps != {"policy/loss": list(range(1, UPDATES[method] + 1))}:
        lost.append("points of policy/loss are missing")
    return lost


def tail(log: Path) -> str:
    """Return the last line of a log."""
    return log.read_text(errors="replace").strip().splitlines()[-1]


def main() -> None:
    """Torture every method, print a table and write results/torture.json."""
    parser = argparse.ArgumentParser(prog="python -m tests.smoke.torture", description=__doc__)
    parser.add_argument("rounds", type=int, help="trainings of each method, each killed five times")
    parser.add_argument("--seed", type=int, default=0, help="of moments and victims")
    arguments = parser.parse_args()
    choose = random.Random(arguments.seed)
    tallies = {method: Tally() for method in METHODS}
    with tempfile.TemporaryDirectory(prefix="torture-") as name:
        ready = make_ready(Path(name) / "ready")
        expected = {method: undisturbed(ready, method) for method in METHODS}
        for number in range(arguments.rounds):
            for method in METHODS:
                by_progress = sorted(choose.random() for _ in range(3))
                by_time = [1 + 15 * choose.random() for _ in range(2)]
                moments = by_progress[:2] + by_time + by_progress[2:]
                tally = torture(ready, method, expected[method], moments, seed=choose.randrange(2**32))
                add(tallies[method], tally)
                print(f"{number + 1}/{arguments.rounds} {method}: {vars(tallies[method])}", flush=True)
    write_json(Path("results") / "torture.json", {method: vars(tally) for method, tally in tallies.items()})
    # Trained from the start each time, the bits would be the same: going on has to be seen.
    sys.exit(any(tally.lost or tally.continued == 0 for tally in tallies.values()))


def add(total: Tally, one: Tally) -> None:
    """Add up two tallies."""
    total.trainings += one.trainings
    total.kills += one.kills
    total.continued += one.continued
    total.lost += one.lost


if __name__ == "__main__":
    main()
