"""A reference that was taught a task has learnt it, is on disk what it says it is, and every training starts there."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.io import paths
from pipeline.io.errors import UserError
from pipeline.policy import loading
from pipeline.policy.types import Decoding
from pipeline.tracking.execution import Execution
from tests.methods.reference.conftest import ANSWER, METRICS, files
from tests.policy.tiny_model import NAME, SEED, completions, perturb, prompts
from tests.policy.tiny_t5 import T5

FILES = {"adapter": {"adapter_config.json", "adapter_model.safetensors"}, "full": {"model.safetensors", "config.json"}}


def metrics():
    return json.loads(files()[METRICS])


def analyzed(policy):
    with torch.no_grad():
        return policy.analyze(completions(8)).logprobs


def test_it_has_learnt_the_task_and_says_so(tiny, learnt, kind):
    assert FILES[kind] | {"manifest.json", "curves.csv", METRICS} == set(files()) - {"generation_config.json"}
    assert json.loads(files()["manifest.json"]) == {"kind": kind}
    found = metrics()
    assert found["dev"]["rouge_l"] > (0.5 if (tiny, kind) == (T5, "adapter") else 0.8)
    assert found["dev"]["kl"] == (0 if kind == "full" else pytest.approx(0, abs=1e-4))
    assert {key: found["train"][key] for key in ("examples", "updates", "too_long", "without")} == {
        "examples": 16,
        "updates": 80,
        "too_long": 0,
        "without": 0,
    }
    assert found["train"]["last"]["policy/loss"] < 1


def test_it_ends_where_the_demonstration_ends(tiny, learnt):
    items = tiny.load("reference").complete(prompts(6, 1), Decoding(12, top_p=0.5), samples=2, seed=0, batch_size=12)
    assert ANSWER in {item.text for item in items if item.finished}
    assert sum(item.finished for item in items) > 8


def test_every_training_starts_from_it_and_is_compared_to_it(tiny, learnt, kind):
    reference, policy = tiny.load("reference"), tiny.new_policy()
    start = analyzed(policy)
    torch.testing.assert_close(start, analyzed(reference), atol=1e-5, rtol=1e-5)
    perturb(policy.model)
    assert not torch.equal(analyzed(policy), start)
    with policy.acting_as("reference"):
        torch.testing.assert_close(analyzed(policy), start, atol=1e-5, rtol=1e-5)
    with policy.acting_as("base"):
        base = start if kind == "full" else analyzed(tiny.policy_of(loading.load_base(NAME, tiny.model())))
        torch.testing.assert_close(analyzed(policy), base, atol=1e-5, rtol=1e-5)
    loading.save_adapter(policy.model, NAME, SEED, "sft")
    torch.testing.assert_close(analyzed(tiny.load("sft")), analyzed(policy), atol=1e-5, rtol=1e-5)


def test_there_is_one_copy_of_the_weights(tiny, learnt):
    base = sum(item.numel() for item in loading.load_base(NAME, tiny.model()).parameters())
    policy = tiny.new_policy()
    adapters = 2 if "reference" in policy.adapters else 1
    own = sum(item.numel() for item in policy.trainable()["adapter"])
    assert sum(item.numel() for item in policy.model.parameters()) == base + adapters * own


def test_all_weights_of_the_model_and_no_more_were_trained(tiny, learnt, kind):
    folder = paths.adapter(NAME, SEED, "reference")
    if kind == "full":
        stored = load_file(folder / "model.safetensors")
        before = load_file(paths.base_model(NAME) / "model.safetensors")
        assert stored.keys() == before.keys()
        assert all(not torch.equal(stored[name], before[name]) for name in stored)
        trained = sum(item.numel() for item in loading.load_base(NAME, tiny.model()).parameters())
    else:
        trained = sum(item.numel() for item in load_file(folder / "adapter_model.safetensors").values())
    assert metrics()["train"]["trainable_parameters"] == trained


def test_its_curves_are_shown_in_its_run(learnt):
    execution = Execution("reference", NAME, SEED)
    assert execution.curves == paths.reference_curves(NAME, SEED)
    assert execution.results == [paths.metrics(NAME, "reference", SEED)]


def test_broken_weights_are_named_with_the_remedy(tiny, learnt):
    (path,) = paths.adapter(NAME, SEED, "reference").glob("*.safetensors")
    save_file({name: weight * float("nan") for name, weight in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(UserError, match=r"adapters/exp/0/reference.*NaN.*run `dvc repro` to train it again"):
        tiny.load("reference")
