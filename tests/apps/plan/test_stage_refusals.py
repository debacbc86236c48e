"""A stage says what it needs before it loads a policy, and is refused where memory cannot hold it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.io import paths
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, ROOT
from tests.smoke import workspace

STAGE = """
from pipeline.apps.stage import Node, run_stage
run_stage({!r}, Node({!r}, ("model",)), lambda stage: print("loaded"), None)
"""
AXES = {"experiment": NAME, "seed": "0", "method": "ppo"}
TRAINING = ("train", tuple(AXES))
TIGHT = "import resource; resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, -1)); "


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write the experiment `exp` with a tiny base."""
    monkeypatch.chdir(tmp_path)
    LLAMA.write_base()
    write()


def write(**sections: dict[str, Any]) -> None:
    parameters = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    workspace.change(parameters, sections)
    path = paths.experiment_file(NAME)
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(parameters), encoding="utf-8")


def run(before: str = "", stage: tuple[str, tuple[str, ...]] = TRAINING, **more: str) -> tuple[int, str, str]:
    surroundings = os.environ | {"PYTHONPATH": str(ROOT), "TRACKING": "off", "DEVICE": "cpu"} | more
    command = [sys.executable, "-c", before + STAGE.format(*stage), *(AXES[axis] for axis in stage[1])]
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout, done.stderr


def huge() -> None:
    """Make one step of PPO sample so much at once that no machine holds it."""
    write(dev={"batch_size": 10_000_000, "max_new_tokens": 100_000})


def test_a_stage_says_what_it_needs_and_starts() -> None:
    code, stdout, stderr = run()
    assert code == 0, stderr
    told = r"^train_ppo: needs about \d+\.\d GB of memory at its peak; .* GB; [\d,]+ parameters, .* minute.*\nloaded$"
    assert re.search(told, stdout, re.MULTILINE)


def test_what_memory_cannot_hold_is_refused_before_anything_is_loaded() -> None:
    huge()
    code, stdout, stderr = run()
    assert code == 2 and "loaded" not in stdout
    assert stderr.count("\n") == 1 and "Traceback" not in stderr
    for part in ("GB of memory are needed", "lower methods.ppo.micro_batch_size or dev.batch_size", "PLAN=ignore"):
        assert part in stderr


def test_it_starts_nevertheless_where_that_is_wanted() -> None:
    huge()
    code, stdout, stderr = run(PLAN="ignore")
    assert code == 0, stderr
    assert "above what is left" in stdout and stdout.endswith("loaded\n")


def test_another_word_is_refused() -> None:
    code, _, stderr = run(PLAN="yes")
    assert code == 2 and "PLAN: expected ignore or nothing" in stderr


def test_a_limit_on_addresses_refuses_too() -> None:
    write(dev={"batch_size": 256, "max_new_tokens": 40_000})
    code, _, stderr = run(before=TIGHT)
    assert code == 2 and "ulimit -v" in stderr


@pytest.mark.parametrize("break_it", ["no base", "no sense", "another stage"])
def test_no_estimate_stops_no_stage(break_it: str) -> None:
    config = paths.base_model(NAME) / "config.json"
    actions: dict[str, Callable[[], object]] = {
        "no base": config.unlink,
        "no sense": lambda: config.write_text("{}"),
        "another stage": lambda: None,
    }
    actions[break_it]()
    huge()
    stage = ("format", ("experiment",)) if break_it == "another stage" else TRAINING
    code, stdout, stderr = run(stage=stage)
    assert code == 0, stderr
    told = "train_ppo: its memory could not be estimated (" in stdout
    assert told == (break_it == "no sense") and stdout.count("\n") == 1 + told
