"""L1: LoRA folded into the weights for as long as completions are sampled."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer


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
