"""A run rebuilt from disk holds what the run that was there held, and rebuilding twice adds nothing."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.apps import track
from pipeline.io import paths
from pipeline.tracking import provenance, runs
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
RATE = "methods.ppo.learning_rate"


def train(stage: str = "train_ppo", policy: str = "ppo") -> None:
    """Run a made-up training that shows its curves while it goes on."""
    with runs.start(stage, experiment=EXPERIMENT, seed=0, params=given.params(stage)) as run:
        for step, values in given.CURVES:
            run.log(step, values)
        given.leave_training(policy)


def git(*arguments: str) -> str:
    """Run git with an identity of its own."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
    done = subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def lock(stage: str = "train_ppo", **changed: Any) -> None:
    """Record a training in dvc.lock as DVC does: the sections as they are in the file, each by its dotted name."""
    name = str(paths.experiment_file(EXPERIMENT))
    raw = yaml.safe_load(Path(name).read_text())
    raw |= {f"methods.{method}": values for method, values in raw["methods"].items()}
    sections = {section: raw[section] for section in given.sections(stage)} | changed
    train_file = paths.formatted(EXPERIMENT, "train")
    deps = [{"path": str(train_file), "hash": "md5", "md5": provenance.file_md5(train_file), "size": 1}]
    entry = {"cmd": "python", "deps": deps, "params": {name: sections}}
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {f"{stage}@{EXPERIMENT}-0": entry}}))


@pytest.mark.usefixtures("repository")
class TestRebuilding:
    def test_equals_the_live_run(self, forget: Callable[[], None]) -> None:
        given.leave_inputs()
        train()
        lock()
        (live,) = given.runs(stage="train_ppo")
        before = given.contents(live)
        forget()

        track.rebuild(EXPERIMENT)

        (rebuilt,) = given.runs(stage="train_ppo")
        assert given.contents(rebuilt) == before
        assert rebuilt.info.status == live.info.status == "FINISHED"
        assert rebuilt.data.tags["rebuilt"] == "true"
        assert "rebuilt" not in live.data.tags

    def test_live_run_holds_everything_once(self) -> None:
        given.leave_inputs()
        train()
        (run,) = given.runs()
        held = given.contents(run)
        assert held["name"] == "ppo"
        assert held["params"]["methods.ppo.learning_rate"] == str(
            given.params("train_ppo")["methods.ppo.learning_rate"]
        )
        assert held["history"]["policy/loss"] == [(step, round(row["policy/loss"], 6)) for step, row in given.CURVES]
        assert held["history"]["objective/kl"] == [(0, 2.5)]
        assert held["history"]["final/objective/score"] == [(0, 0.75)]
        assert set(held["artifacts"]) == {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"}
        assert [name for name, _ in held["inputs"]] == [str(paths.formatted(EXPERIMENT, "train"))]
        assert run.data.tags["method"] == "ppo"
        assert run.data.tags["seed"] == "0"

    def test_twice_adds_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        given.leave_inputs()
        given.leave_training("ppo")
        given.leave_training("sft")
        given.leave_adapter("reference")
        given.leave_evaluation()
        track.rebuild(EXPERIMENT)
        first = capsys.readouterr().out
        before = {run.info.run_id: given.contents(run) for run in given.runs()}

        track.rebuild(EXPERIMENT)

        second = capsys.readouterr().out
        assert {run.info.run_id: given.contents(run) for run in given.runs()} == before
        assert len(before) == 4
        assert first.count(": rebuilt") == second.count(": present") == 4
        assert first.count("skipped: no metrics on disk") == second.count("skipped: no metrics on disk") == 3

    def test_takes_parameters_from_the_lock(self) -> None:
        given.leave_inputs()
        given.leave_training("ppo")
        lock(**{"methods.ppo": {"learning_rate": 0.125, "steps": 3}})
        track.rebuild(EXPERIMENT)
        (run,) = given.runs(stage="train_ppo")
        assert run.data.params[RATE] == "0.125"
        assert "methods.ppo.epochs" not in run.data.params

    def test_takes_parameters_from_the_file_where_nothing_is_locked(self) -> None:
        given.leave_training("ppo")
        track.rebuild(EXPERIMENT)
        (run,) = given.runs(stage="train_ppo")
        assert run.data.params[RATE] == str(given.params("train_ppo")["methods.ppo.learning_rate"])
        assert not any(name.startswith("methods.sft.") for name in run.data.params)

    def test_attaches_an_adapter_that_was_pulled_later(self, capsys: pytest.CaptureFixture[str]) -> None:
        given.leave_training("ppo")
        shutil.move(paths.adapter(EXPERIMENT, 0, "ppo"), "elsewhere")
        track.rebuild(EXPERIMENT)
        (run,) = given.runs(stage="train_ppo")
        assert given.contents(run)["artifacts"] == {}

        shutil.move("elsewhere", paths.adapter(EXPERIMENT, 0, "ppo"))
        track.rebuild(EXPERIMENT)

        (same,) = given.runs(stage="train_ppo")
        assert same.info.run_id == run.info.run_id
        assert "adapter/adapter_model.safetensors" in given.contents(same)["artifacts"]
        assert "adapter attached" in capsys.readouterr().out

    def test_never_attaches_an_adapter_of_another_training(self, capsys: pytest.CaptureFixture[str]) -> None:
        given.leave_training("ppo")
        (paths.adapter(EXPERIMENT, 0, "ppo") / "adapter_model.safetensors").write_bytes(b"another training")
        track.rebuild(EXPERIMENT)
        (run,) = given.runs(stage="train_ppo")
        assert given.contents(run)["artifacts"] == {}
        assert "dvc checkout" in capsys.readouterr().out

    def test_knows_the_digests_of_inputs_that_are_not_on_disk(self) -> None:
        given.leave_inputs()
        given.leave_training("ppo")
        lock()
        expected = provenance.file_md5(paths.formatted(EXPERIMENT, "train"))
        shutil.rmtree("data")
        track.rebuild(EXPERIMENT)
        (run,) = given.runs(stage="train_ppo")
        assert given.contents(run)["inputs"] == [(str(paths.formatted(EXPERIMENT, "train")), expected)]

    def test_names_the_commit_that_recorded_the_result(self) -> None:
        given.leave_training("ppo")
        git("init", "-q")
        git("add", "metrics", "plots")
        git("commit", "-qm", "result")
        recorder = git("rev-parse", "HEAD")
        git("add", "params.yaml")
        git("commit", "-qm", "later")
        track.rebuild(EXPERIMENT)
        (run,) = given.runs(stage="train_ppo")
        assert run.data.tags["git.commit"] == recorder
        assert run.data.tags["git.dirty"] == "false"


@pytest.mark.usefixtures("repository")
def test_a_live_run_names_commit_and_lock_and_what_differs_except_results() -> None:
    Path(".gitignore").write_text("*.db*\nmlartifacts/\nadapters/\nexperiments/\n")
    Path("dvc.lock").write_text("schema: '2.0'\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "before")
    train()
    (clean,) = given.runs()
    assert clean.data.tags["git.commit"] == git("rev-parse", "HEAD")
    assert clean.data.tags["git.dirty"] == "false"
    train()  # new metrics and plots are what a run is for: they do not make its successor dirty
    assert [run.data.tags["git.dirty"] for run in given.runs()] == ["false", "false"]
    Path("params.yaml").write_text("changed: true")
    train()
    assert given.runs()[0].data.tags["git.dirty"] == "true"
    assert len(clean.data.tags["dvc.lock"]) == 64


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("ending", "status"), [(ValueError("darn"), "FAILED"), (SystemExit(143), "KILLED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_stage_that_did_not_finish_says_so_and_keeps_its_points(ending: BaseException, status: str) -> None:
    with (
        pytest.raises(type(ending)),
        runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params={}) as run,
    ):
        run.log(1, {"policy/loss": 0.5})
        raise ending
    (found,) = given.runs()
    assert found.info.status == status
    assert found.data.metrics == {"policy/loss": 0.5}


@pytest.mark.usefixtures("repository")
def test_values_that_are_not_finite_are_missing_not_zero() -> None:
    with runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params={}) as run:
        run.log(0, {"policy/loss": float("nan"), "objective/score": 0.0})
        given.leave_training("ppo")
    (found,) = given.runs()
    history = given.contents(found)["history"]
    assert history["policy/loss"][0] == (0, 1.0)  # from the file: the stage showed none
    assert history["objective/score"][0] == (0, 0.0)


@pytest.mark.usefixtures("repository")
def test_a_parameter_that_is_too_long_keeps_its_digest() -> None:
    with runs.start("train_ppo", experiment=EXPERIMENT, seed=0, params={"data.uri": "x" * 7000, "a.b+c/": 2.0}):
        given.leave_training("ppo")
    (found,) = given.runs()
    assert len(found.data.params["data.uri"]) == 6000
    assert "sha256:" in found.data.params["data.uri"]
    assert found.data.params["a.b_c"] == "2"
