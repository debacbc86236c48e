"""A policy on a trained reference, and the reference itself, as one checkpoint; and what its card says."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
import yaml

from pipeline.apps.export import export
from pipeline.io import paths
from pipeline.io.hashing import adapter_fingerprint
from pipeline.io.records import write_json
from pipeline.policy import loading
from pipeline.tracking import model_card
from tests.policy.tiny_model import NAME, SEED, completions, perturb
from tests.smoke import workspace


def logits(model):
    ids = torch.tensor([[5, 9, 14, 3, 21]])
    with torch.no_grad():
        return model.eval()(input_ids=ids, labels=ids).logits


def loaded(folder):
    (name,) = json.loads((folder / "config.json").read_text())["architectures"]
    return getattr(transformers, name).from_pretrained(folder, local_files_only=True)


@pytest.fixture
def policy(tiny, learnt):
    """Return a policy on a trained reference, saved as a training of SFT leaves it."""
    (learnt / "params.yaml").write_text(yaml.safe_dump(workspace.roster([NAME], [SEED], ["sft"]), sort_keys=False))
    (learnt / "dvc.yaml").write_text((Path(__file__).parents[3] / "dvc.yaml").read_text())
    policy = tiny.new_policy()
    perturb(policy.model, 0.3)
    folder = loading.save_adapter(policy.model, NAME, SEED, "sft")
    write_json(paths.metrics(NAME, "sft", SEED), {"adapter_sha256": adapter_fingerprint(folder)})
    return policy


def test_the_policy_is_whole_without_its_reference(tiny, policy):
    folder, check = export(NAME, "sft", SEED)
    torch.testing.assert_close(logits(loaded(folder)), logits(policy.model), atol=1e-3, rtol=1e-4)
    assert check.difference <= check.allowed < check.effect / 10
    assert policy.analyze(completions(2)).logprobs.isfinite().all()


def test_the_reference_is_exported_as_it_is(tiny, policy):
    folder, check = export(NAME, "reference", SEED)
    torch.testing.assert_close(logits(loaded(folder)), logits(tiny.load("reference").model), atol=1e-3, rtol=1e-4)
    assert check.difference <= check.allowed
    card = (folder / "README.md").read_text()
    assert "without any training" not in card and "| reference.max_demonstration_tokens | 12 |" in card


def test_the_card_s_example_loads_the_policy(policy, kind):
    card = model_card.adapter_card(NAME, SEED, "sft")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    found = {}
    exec(code.replace('"."', repr(str(paths.adapter(NAME, SEED, "sft")))), found)
    torch.testing.assert_close(logits(found["model"]), logits(policy.model), atol=1e-5, rtol=1e-5)
    assert ("all its weights trained" in card) == (kind == "full")
    assert "| reference.learning_rate |" in card and "| methods.sft.learning_rate |" in card
