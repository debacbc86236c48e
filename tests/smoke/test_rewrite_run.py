"""What is true of the experiment that teaches a T5 to repeat, of one real run of it on tiny parts."""

import json

import pytest

from pipeline.io import paths
from tests.smoke.conftest import WholeRun
from tests.smoke.rewrite import BUILD, EXPERIMENT

pytestmark = pytest.mark.slow


def test_the_base_is_built_as_the_experiment_says(rewrite_run: WholeRun) -> None:
    folder = rewrite_run.workspace.root / paths.base_model(EXPERIMENT)
    config = json.loads((folder / "config.json").read_text())
    assert {key: config[key] for key in BUILD} == BUILD
    assert config["model_type"] == "t5"


def test_the_reference_is_all_weights_and_not_the_base(rewrite_run: WholeRun) -> None:
    from safetensors.torch import load_file

    root = rewrite_run.workspace.root
    reference = root / paths.adapter(EXPERIMENT, 0, "reference")
    assert json.loads((reference / "manifest.json").read_text())["kind"] == "full"
    before = load_file(root / paths.base_model(EXPERIMENT) / "model.safetensors")
    after = load_file(reference / "model.safetensors")
    assert before.keys() == after.keys()
    assert any(not before[name].equal(after[name]) for name in before)


def test_every_prompt_is_its_own_demonstration(rewrite_run: WholeRun) -> None:
    for split in ("train", "dev", "eval"):
        path = rewrite_run.workspace.root / paths.formatted(EXPERIMENT, split)
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert rows
        assert all(row["demonstrations"] == [row["prompt"]] for row in rows)
