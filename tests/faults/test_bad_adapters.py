"""Adapters, reference manifests and LoRA targets that are broken, or that are not for this model."""

from pathlib import Path

import pytest
import torch

from tests.faults.breaking import (
    COMPLETE,
    DPO,
    PPO,
    PREFERENCES,
    PROBE,
    SFT,
    Fault,
    cases,
    cut,
    folder_gone,
    folder_instead,
    keys,
    parameter,
    pickle_instead,
    pickled,
    removed,
    tensors,
    written,
)
from tests.faults.conftest import refused

MANIFEST = Path("adapters/smoke/0/reference/manifest.json")
ADAPTER = Path("adapters/smoke/0/dpo")
ADAPTER_CONFIG, ADAPTER_WEIGHTS = ADAPTER / "adapter_config.json", ADAPTER / "adapter_model.safetensors"
OF_REFERENCE = "complete smoke 0 reference"

MANIFESTS = [
    Fault("no manifest", removed(MANIFEST), SFT, (str(MANIFEST),)),
    Fault("empty manifest", written(MANIFEST, ""), DPO, (str(MANIFEST),)),
    Fault("manifest that is a list", written(MANIFEST, "[]"), PPO, (str(MANIFEST),)),
    Fault("manifest without a kind", written(MANIFEST, "{}"), OF_REFERENCE, (str(MANIFEST), "kind")),
    Fault("manifest of an unknown kind", keys(MANIFEST, kind="goose"), PREFERENCES, (str(MANIFEST), "kind", "goose")),
    Fault("manifest with a kind of another type", keys(MANIFEST, kind=["base"]), COMPLETE, (str(MANIFEST), "kind")),
    Fault(
        "manifest that promises an adapter",
        keys(MANIFEST, kind="adapter"),
        PREFERENCES,
        (str(MANIFEST.parent / "adapter_config.json"),),
    ),
    Fault("manifest that is a folder", folder_instead(MANIFEST), PROBE, (str(MANIFEST),)),
]

ADAPTERS = [
    Fault("no adapter", folder_gone(ADAPTER), COMPLETE, (str(ADAPTER),)),
    Fault("no adapter config", removed(ADAPTER_CONFIG), COMPLETE, (str(ADAPTER_CONFIG),)),
    Fault("half an adapter config", cut(ADAPTER_CONFIG), PROBE, (str(ADAPTER_CONFIG),)),
    Fault("adapter config without a rank", keys(ADAPTER_CONFIG, r=...), COMPLETE, (str(ADAPTER_CONFIG), "r")),
    Fault("adapter config with a rank in words", keys(ADAPTER_CONFIG, r="four"), COMPLETE, (str(ADAPTER_CONFIG), "r")),
    Fault("adapter config with no rank", keys(ADAPTER_CONFIG, r=0), COMPLETE, (str(ADAPTER_CONFIG), "r")),
    Fault("adapter config of another rank", keys(ADAPTER_CONFIG, r=8), COMPLETE, (str(ADAPTER), "shape")),
    Fault(
        "adapter config without a type",
        keys(ADAPTER_CONFIG, peft_type=...),
        COMPLETE,
        (str(ADAPTER_CONFIG), "peft_type"),
    ),
    Fault(
        "adapter of an unknown type",
        keys(ADAPTER_CONFIG, peft_type="HONK"),
        COMPLETE,
        (str(ADAPTER_CONFIG), "peft_type"),
    ),
    Fault("adapter of another type", keys(ADAPTER_CONFIG, peft_type="IA3"), PROBE, (str(ADAPTER_CONFIG), "peft_type")),
    Fault(
        "adapter of another task",
        keys(ADAPTER_CONFIG, task_type="SEQ_2_SEQ_LM"),
        COMPLETE,
        (str(ADAPTER_CONFIG), "task_type"),
    ),
    Fault(
        "adapter config of no module",
        keys(ADAPTER_CONFIG, target_modules=[]),
        COMPLETE,
        (str(ADAPTER_CONFIG), "target_modules"),
    ),
    Fault(
        "adapter config of another module",
        keys(ADAPTER_CONFIG, target_modules=["goose_proj"]),
        COMPLETE,
        (str(ADAPTER_CONFIG), "goose_proj"),
    ),
    Fault(
        "adapter config of one module more",
        keys(ADAPTER_CONFIG, target_modules=["q_proj", "goose_proj"]),
        COMPLETE,
        (str(ADAPTER_CONFIG), "goose_proj"),
    ),
    Fault(
        "adapter config of fewer modules",
        keys(ADAPTER_CONFIG, target_modules=["q_proj"]),
        COMPLETE,
        (str(ADAPTER_WEIGHTS), "down_proj"),
    ),
    Fault(
        "adapter config with code",
        keys(ADAPTER_CONFIG, auto_mapping={"base_model_class": "Own", "parent_library": "evil"}),
        COMPLETE,
        (str(ADAPTER_CONFIG), "auto_mapping"),
    ),
    Fault(
        "adapter config that imports",
        keys(ADAPTER_CONFIG, megatron_config={"a": 1}, megatron_core="evil"),
        PROBE,
        (str(ADAPTER_CONFIG), "megatron_core"),
    ),
    Fault(
        "adapter config that starts otherwise",
        keys(ADAPTER_CONFIG, init_lora_weights="pissa"),
        COMPLETE,
        (str(ADAPTER_CONFIG), "init_lora_weights"),
    ),
    Fault(
        "adapter config with an unknown key", keys(ADAPTER_CONFIG, goose=1), COMPLETE, (str(ADAPTER_CONFIG), "goose")
    ),
    Fault("no adapter weights", removed(ADAPTER_WEIGHTS), COMPLETE, (str(ADAPTER_WEIGHTS),)),
    Fault(
        "adapter in a pickle alone",
        pickle_instead(ADAPTER_WEIGHTS, "adapter_model.bin"),
        COMPLETE,
        (str(ADAPTER_WEIGHTS),),
    ),
    Fault("pickled adapter named safetensors", written(ADAPTER_WEIGHTS, pickled()), PROBE, (str(ADAPTER_WEIGHTS),)),
    Fault("empty adapter", written(ADAPTER_WEIGHTS, b""), COMPLETE, (str(ADAPTER_WEIGHTS),)),
    Fault("half an adapter", cut(ADAPTER_WEIGHTS), COMPLETE, (str(ADAPTER_WEIGHTS),)),
    Fault(
        "adapter without anything",
        tensors(ADAPTER_WEIGHTS, lambda found: found.clear()),
        COMPLETE,
        (str(ADAPTER_WEIGHTS),),
    ),
    Fault(
        "adapter that lacks a tensor",
        tensors(ADAPTER_WEIGHTS, lambda found: found.pop(sorted(found)[0])),
        COMPLETE,
        (str(ADAPTER_WEIGHTS), "lora_A"),
    ),
    Fault(
        "adapter with one more tensor",
        tensors(ADAPTER_WEIGHTS, lambda found: found.update(goose=torch.zeros(2))),
        COMPLETE,
        (str(ADAPTER_WEIGHTS), "goose"),
    ),
    Fault(
        "adapter of another shape",
        tensors(
            ADAPTER_WEIGHTS,
            lambda found: found.update({name: value[:, :3] for name, value in found.items() if "lora_A" in name}),
        ),
        PROBE,
        (str(ADAPTER_WEIGHTS), "shape"),
    ),
    Fault(
        "adapter with NaN",
        tensors(ADAPTER_WEIGHTS, lambda found: found[sorted(found)[0]].fill_(float("nan"))),
        COMPLETE,
        (str(ADAPTER_WEIGHTS), "finite"),
    ),
    Fault(
        "adapter with infinity",
        tensors(ADAPTER_WEIGHTS, lambda found: found[sorted(found)[1]].fill_(float("inf"))),
        PROBE,
        (str(ADAPTER_WEIGHTS), "finite"),
    ),
]

LORA = [
    Fault(
        "target that the model does not have",
        parameter("lora", target_modules=["goose_proj"]),
        SFT,
        ("lora.target_modules", "goose_proj"),
    ),
    Fault(
        "target beside a true one",
        parameter("lora", target_modules=["q_proj", "goose_proj"]),
        PPO,
        ("lora.target_modules", "goose_proj"),
    ),
    Fault(
        "target that is no matrix",
        parameter("lora", target_modules=["input_layernorm"]),
        DPO,
        ("lora.target_modules", "input_layernorm"),
    ),
    Fault(
        "target that is a pattern",
        parameter("lora", target_modules=["all-linear"]),
        SFT,
        ("lora.target_modules", "all-linear"),
    ),
    Fault("target that is a block", parameter("lora", target_modules=["mlp"]), PPO, ("lora.target_modules", "mlp")),
]


@pytest.mark.parametrize("fault", cases([*MANIFESTS, *ADAPTERS, *LORA]))
def test_it_is_refused(fault: Fault, workplace: Path) -> None:
    fault.broken()
    refused(*fault.arguments, names=fault.names)
