"""What a trained policy leaves on disk: one adapter, nothing else, nothing of the machine it was made on."""

import json

import torch
from safetensors.torch import load_file

from pipeline.io import paths
from pipeline.policy import loading
from tests.policy.tiny_model import perturb


def saved(policy, method="ppo"):
    return loading.save_adapter(policy.model, "exp", 0, method)


def test_only_the_policy_adapter_is_saved_and_not_as_pickle(policy):
    folder = saved(policy)
    assert folder == paths.adapter("exp", 0, "ppo")
    assert sorted(path.name for path in folder.rglob("*")) == ["adapter_config.json", "adapter_model.safetensors"]
    count = sum(weight.numel() for weight in load_file(folder / "adapter_model.safetensors").values())
    assert count == sum(parameter.numel() for parameter in policy.trainable()["adapter"])


def test_the_saved_weights_are_the_policy_and_not_the_reference(policy):
    perturb(policy.model)
    stored = load_file(saved(policy) / "adapter_model.safetensors")
    state = policy.model.state_dict()
    own = {name.replace(".default", ""): value for name, value in state.items() if ".default" in name}
    assert stored.keys() == own.keys()
    assert all(torch.equal(stored[name], own[name]) for name in own)


def test_no_place_of_this_machine_is_in_it(policy, workplace):
    folder = saved(policy)
    for path in folder.iterdir():
        assert str(workplace).encode() not in path.read_bytes(), path.name
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(paths.base_model("exp"))


def test_the_same_weights_give_the_same_bytes(tiny, workplace):
    bytes_of = [
        {path.name: path.read_bytes() for path in saved(tiny.new_policy(), method).iterdir()}
        for method in ("sft", "ppo")
    ]
    assert bytes_of[0] == bytes_of[1]


def test_the_order_of_a_set_does_not_reach_the_disk(tiny, policy):
    modules = json.loads((saved(policy) / "adapter_config.json").read_text())["target_modules"]
    assert modules == sorted(tiny.lora().target_modules)


def test_another_seed_starts_from_another_adapter(tiny, workplace):
    loading.write_reference_manifest("exp", 1, "base")
    first, second = (loading.new_policy_model("exp", seed, tiny.model(), tiny.lora()).state_dict() for seed in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_what_an_earlier_training_left_is_replaced_as_a_whole(policy):
    (saved(policy) / "leftover.txt").write_text("half")
    assert not (saved(policy) / "leftover.txt").exists()
