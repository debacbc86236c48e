"""The champion of an evaluation in the model registry: one version an adapter, and an alias that tells the truth."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.apps import track
from pipeline.io import paths
from pipeline.io.records import read_json
from pipeline.tracking import runs
from tests.tracking import evaluated
from tests.tracking import made_up as given

EXPERIMENT = given.EXPERIMENT
pytestmark = pytest.mark.usefixtures("repository", "trained")


@pytest.fixture
def trained(repository: Path) -> None:
    """Leave two trainings."""
    for method in ("sft", "ppo"):
        given.leave_training(method)


def evaluate(champion: str | None, **what: Any) -> None:
    """Run a made-up evaluation with this champion."""
    toxicity = {"reference": 0.28, "sft": 0.21, "ppo": 0.22}
    with runs.start("evaluate", experiment=EXPERIMENT, params=given.params("evaluate")):
        evaluated.leave(EXPERIMENT, evaluated.evaluation(toxicity, champion=champion, **what))


def champion() -> Any:
    """Return the version that the alias names, None where it names none."""
    found = given.client().search_registered_models(f"name = '{EXPERIMENT}'")
    return given.client().get_model_version_by_alias(EXPERIMENT, "champion") if found and found[0].aliases else None


def versions() -> list[Any]:
    return list(given.client().search_model_versions(f"name = '{EXPERIMENT}'"))


def files(version: Any) -> dict[str, bytes]:
    """Download what a version holds."""
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(version.source, tracking_uri=runs.Store.open(EXPERIMENT).uri))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_registered_without_a_pickle_and_with_its_card() -> None:
    evaluate("sft")
    version = champion()
    held = files(version)
    assert set(held) == {"adapter_model.safetensors", "adapter_config.json", "README.md"}
    adapter = paths.adapter(EXPERIMENT, 0, "sft")
    assert held["adapter_model.safetensors"] == (adapter / "adapter_model.safetensors").read_bytes()
    assert f"# {EXPERIMENT}: sft, seed 0" in held["README.md"].decode()
    assert version.tags["policy"] == "sft"
    assert version.tags["dataset"] == "realtoxicityprompts"
    assert version.tags["adapter.fingerprint"] == read_json(paths.metrics(EXPERIMENT, "sft", 0))["adapter_sha256"]


def test_it_leads_to_the_run_that_trained_it() -> None:
    evaluate("sft")
    (run,) = given.runs(stage="train_sft")
    assert champion().run_id == run.info.run_id


def test_the_same_champion_has_one_version() -> None:
    evaluate("sft")
    first = champion()
    track.rebuild(EXPERIMENT)
    track.rebuild(EXPERIMENT)
    assert len(versions()) == 1
    assert champion().last_updated_timestamp == first.last_updated_timestamp


def test_a_new_champion_takes_the_alias_and_an_old_one_its_version_again() -> None:
    evaluate("sft")
    evaluate("ppo")
    assert (champion().tags["policy"], len(versions())) == ("ppo", 2)
    evaluate("sft")
    assert (champion().tags["policy"], len(versions())) == ("sft", 2)


def test_another_evaluation_of_the_same_adapter_renews_its_card() -> None:
    evaluate("sft")
    before = champion()
    evaluate("sft", failed={"ppo": "distinct_2"}, seeds=(0,), samples=25)
    after = champion()
    assert len(versions()) == 1
    assert after.tags["evaluation.fingerprint"] != before.tags["evaluation.fingerprint"]
    assert "25 completions each" in files(after)["README.md"].decode()


def test_without_a_champion_no_version_is_called_one(caplog: pytest.LogCaptureFixture) -> None:
    evaluate("sft")
    with caplog.at_level(logging.WARNING):
        evaluate(None)
    assert champion() is None
    assert len(versions()) == 1
    (line,) = [record.getMessage() for record in caplog.records if "champion" in record.getMessage()]
    assert "it fails distinct_2" in line


def test_where_there_never_was_one_nothing_is_registered() -> None:
    evaluate(None)
    assert given.client().search_registered_models() == []


def test_an_adapter_that_is_not_on_disk_is_a_note_and_registered_when_it_comes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    evaluate("ppo")
    folder = paths.adapter(EXPERIMENT, 0, "sft")
    shutil.move(folder, "elsewhere")
    with caplog.at_level(logging.WARNING):
        evaluate("sft")
    assert champion() is None  # not ppo, which this evaluation did not choose
    assert f"{folder} is not on disk: `dvc pull`" in caplog.text
    assert {run.info.status for run in given.runs(stage="evaluate")} == {"FINISHED"}
    shutil.move("elsewhere", folder)
    track.rebuild(EXPERIMENT)
    assert champion().tags["policy"] == "sft"


def test_an_adapter_of_another_training_is_never_registered(caplog: pytest.LogCaptureFixture) -> None:
    (paths.adapter(EXPERIMENT, 0, "sft") / "adapter_model.safetensors").write_bytes(b"another")
    with caplog.at_level(logging.WARNING):
        evaluate("sft")
    assert versions() == []
    assert "`dvc checkout`" in caplog.text


def test_an_empty_store_gets_it_from_disk(forget: Callable[[], None]) -> None:
    evaluate("sft")
    before = files(champion())
    forget()
    track.rebuild(EXPERIMENT)
    assert files(champion()) == before
