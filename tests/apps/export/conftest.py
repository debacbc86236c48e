"""A trained policy of each architecture on disk: base, adapter, dev prompts, metrics and the experiment's file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pipeline.data.schema import prompt_row, to_json
from pipeline.io import paths
from pipeline.io.hashing import adapter_fingerprint
from pipeline.io.records import write_json, write_jsonl
from pipeline.policy import loading
from tests.policy import tiny_model
from tests.policy.tiny_llama import LLAMA
from tests.policy.tiny_model import NAME, ROOT, SEED, TinyModel
from tests.policy.tiny_t5 import FLUENCY, T5
from tests.smoke import workspace


@pytest.fixture(params=[LLAMA, T5], ids=lambda tiny: tiny.architecture)
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    """Return the tiny model of one architecture, then of the other."""
    return request.param


@pytest.fixture
def train(tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that lays out the experiment `exp` and a policy `sft` that differs from its base."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVICE", "cpu")

    def make(task_reference: bool = False, **model: Any) -> Any:
        tiny.write_base()
        if task_reference:
            tiny.write_task_reference()
        write_parameters(tiny, **model)
        prompts = ["the old man walks", "a silly dog", "the young farmer often sings near the river"]
        write_jsonl(paths.formatted(NAME, "dev"), [to_json(prompt_row(prompt)) for prompt in prompts])
        torch.manual_seed(7)
        policy = tiny.new_policy()
        tiny_model.perturb(policy.model, 0.3)
        folder = loading.save_adapter(policy.model, NAME, SEED, "sft")
        write_json(paths.metrics(NAME, "sft", SEED), {"adapter_sha256": adapter_fingerprint(folder)})
        return policy

    return make


def write_parameters(tiny: TinyModel, **model: Any) -> None:
    """Write roster, DAG and the default experiment's parameters with this architecture in them."""
    parameters = yaml.safe_load((ROOT / "experiments" / "smollm2-rtp.yaml").read_text())
    parameters["model"] |= {"architecture": tiny.architecture, **model}
    if tiny is T5:
        parameters["fluency"] = FLUENCY
    paths.experiment_file(NAME).parent.mkdir(exist_ok=True)
    paths.experiment_file(NAME).write_text(yaml.safe_dump(parameters))
    paths.roster_file().write_text(yaml.safe_dump(workspace.roster([NAME], [SEED]), sort_keys=False))
    shutil.copy(ROOT / "dvc.yaml", "dvc.yaml")
