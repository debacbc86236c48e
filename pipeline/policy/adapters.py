"""Adapters: their files, one copy of the weights acting as policy, reference or base, and folding into the weights.

PEFT looks for an absent adapter on the model hub, reads a pickle where there are no safetensors, starts tensors that
are missing from random numbers, and leaves out what it has no place for: here all of that is refused.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file

from pipeline.io.errors import UserError, shown
from pipeline.io.records import read_json
from pipeline.sources.checkpoint import check_finite, check_safetensors, named

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
REMEDY = "delete the folder and run `dvc repro` to train it again"
# Where and with what it was written, and what PEFT sets by itself: nothing that the weights depend on.
# fan_in_fan_out PEFT sets where the base has matrices of that kind (GPT-2), whatever it reads here.
_FREE = {"base_model_name_or_path", "fan_in_fan_out", "inference_mode", "peft_version"}


def read_adapter(folder: Path, task: str, base: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of an adapter folder for the model `base`.

    Raises UserError unless it is plain LoRA as `models.write_adapter` writes it, in safetensors, with finite weights,
    on modules that the base has. Other kinds of adapter, and settings that import code or change the base, are refused.
    """
    _check_config(folder / CONFIG, task, base)
    path = folder / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path}: not found; weights are read from safetensors alone; {REMEDY}")
    check_safetensors(path, REMEDY)
    tensors = load_file(path)
    check_finite(path, tensors, REMEDY)
    return tensors


def check_adapted(folder: Path, tensors: dict[str, torch.Tensor], adapted: dict[str, torch.Tensor]) -> None:
    """Raise UserError unless the tensors of the file are those of the adapted model, no more and no less."""
    path = folder / WEIGHTS
    # PEFT writes an adapted embedding or output layer beside the adapter of it.
    found = {name for name in tensors if ".base_layer." not in name}
    if missing := adapted.keys() - found:
        raise UserError(f"{path}: lacks {named(missing)}, which would start from random numbers; {REMEDY}")
    if surplus := found - adapted.keys():
        raise UserError(f"{path}: holds {named(surplus)}, which adapter_config.json has no place for; {REMEDY}")


def absent_modules(base: Any, targets: Sequence[str]) -> list[str]:
    """Return those `targets` that no module of the model is called, with or without what it lies in."""
    modules = [name for name, _ in base.named_modules()]
    return [target for target in targets if not any(name == target or name.endswith(f".{target}") for name in modules)]


def _check_config(path: Path, task: str, base: Any) -> None:
    from peft import LoraConfig

    raw = read_json(path)
    for key, (wanted, is_valid) in _WANTED.items():
        if key not in raw or not is_valid(raw[key]):
            raise UserError(f"{path}: {key}: expected {wanted}, got {shown(raw.get(key))}; {REMEDY}")
    if raw.get("task_type") != task:
        raise UserError(f"{path}: task_type: expected {task}, got {shown(raw.get('task_type'))}; {REMEDY}")
    own = {key: raw[key] for key in _WANTED if key != "peft_type"}
    plain: dict[str, Any] = json.loads(json.dumps(LoraConfig(**own, task_type=task).to_dict(), default=sorted))
    others = raw.keys() - _WANTED.keys() - _FREE
    strange = sorted(key for key in others if key not in plain or raw[key] != plain[key])
    if strange:
        told = ", ".join(f"{shown(key)} is {shown(raw[key])}" for key in strange[:3])
        raise UserError(f"{path}: expected plain LoRA as a training stage writes it, but {told}; {REMEDY}")
    if absent := absent_modules(base, raw["target_modules"]):
        raise UserError(f"{path}: target_modules: the base has no module {shown(absent)}; {REMEDY}")


def _is_share(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1


def _is_positive(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) and item for item in value)


_WANTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "peft_type": ("LORA", lambda value: value == "LORA"),
    "r": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
    "lora_alpha": ("a number above 0", _is_positive),
    "lora_dropout": ("a number of at least 0 and below 1", _is_share),
    "target_modules": ("a list of names", _are_names),
}


POLICY_ADAPTER = "default"  # PEFT saves an adapter of this name without a subfolder
REFERENCE_ADAPTER = "ref"  # as TRL calls it


def adapters_of(model: Any) -> set[str]:
    """Return the names of the adapters that are loaded: none for a bare base."""
    return set(model.peft_config) if isinstance(model, PeftModel) else set()


@contextmanager
def acting_as_reference(model: Any) -> Iterator[None]:
    """Let the model act as the reference inside the block: adapter off, or the frozen reference adapter on.

    `inference_mode=True` matters: without it PEFT makes the adapter it switches to trainable.
    """
    if REFERENCE_ADAPTER not in adapters_of(model):
        with acting_as_base(model):
            yield
    else:
        with _learning_as_before(model):
            model.base_model.set_adapter(REFERENCE_ADAPTER, inference_mode=True)
            try:
                yield
            finally:
                model.base_model.set_adapter(POLICY_ADAPTER, inference_mode=True)


@contextmanager
def acting_as_base(model: Any) -> Iterator[None]:
    """Let the model act as the untouched base inside the block."""
    if isinstance(model, PeftModel):
        with _learning_as_before(model), model.disable_adapter():
            yield
    else:
        yield


@contextmanager
def _learning_as_before(model: PeftModel) -> Iterator[None]:
    """Let the same parameters learn after the block as before: PEFT makes an adapter it returns to trainable."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    finally:
        for parameter, learned in before:
            parameter.requires_grad_(learned)


@contextmanager
def merged(model: Any) -> Iterator[None]:
    """Fold the active LoRA adapter into the base weights inside the block; afterwards every byte is as it was.

    Saves the two small products that LoRA adds to every layer of every token. The weights are replaced, not changed
    and changed back: subtracting the update again leaves rounding errors that add up over a training. It costs a
    second copy of the adapted weights inside the block, when no activations are kept for a gradient. Only float32
    weights are folded: in bfloat16 the sum rounds most of a small update away. A weight that several modules share,
    as embeddings and output layer may, is not folded either: the adapter belongs to one of them alone; nor is LoRA
    that is more than a product of two matrices (DoRA and other variants, a bias of its own).
    """
    owners = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    with ExitStack() as stack, torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, LoraLayer) and owners[id(layer.get_base_layer().weight)] == 1:
                stack.enter_context(_merged_layer(layer))
        yield


@contextmanager
def _merged_layer(layer: Any) -> Iterator[None]:
    weight = layer.get_base_layer().weight
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    plain = not any(name in layer.lora_variant or layer.lora_bias.get(name) for name in active)
    if weight.dtype != torch.float32 or not active or not plain or layer.merged or layer.disable_adapters:
        yield
        return
    original = weight.data
    weight.data = original + sum(layer.get_delta_weight(name) for name in active)
    layer.merged_adapters.extend(active)  # PEFT's own mark: its forward pass then leaves the adapters out
    try:
        yield
    finally:
        weight.data = original
        layer.merged_adapters.clear()
