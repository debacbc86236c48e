"""Activations that are computed again in the backward pass instead of kept (Chen et al. 2016)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.io.errors import UserError

# The other kind computes gradients only where the input of a layer has one, which a frozen embedding's has not.
SETTINGS = {"use_reentrant": False}


def switch_on(model: Any) -> None:
    """Let every layer of the model keep no more than its input for the backward pass, where it is trained.

    Raises UserError for a model whose layers cannot.
    """
    try:
        model.activation_checkpointing_enable(SETTINGS)
    except ValueError as error:
        raise UserError(
            f"model.gradient_checkpointing: {type(model).__name__} keeps its activations whatever it is told; "
            "set it to false or choose another model.source"
        ) from error
    model.disable_input_require_grads()  # is for the other kind


def layers_of(model: Any) -> list[GradientCheckpointingLayer]:
    """Return the layers that keep no activations."""
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, GradientCheckpointingLayer) and layer.gradient_checkpointing
    ]


@contextmanager
def recomputing(layers: Sequence[GradientCheckpointingLayer]) -> Iterator[None]:
    """Let these layers keep no activations of what is read inside the block, in evaluation mode.

    Transformers' own way acts in training mode alone, whose dropout would make a token's probability another in every
    pass, and takes the cache away from whatever samples.
    """
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
