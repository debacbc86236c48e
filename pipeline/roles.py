"""L1: one copy of the weights that acts as policy, as reference or as the base, by which of its adapters is on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from peft import PeftModel

POLICY_ADAPTER = "default"  # PEFT saves an adapter of this name without a subfolder
REFERENCE_ADAPTER = "ref"  # TRL's name for it, by which its DPOTrainer finds the reference of a PEFT model


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
