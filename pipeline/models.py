"""L1: base model, tokenizer, LoRA adapters. Architecture, dtype and device are decided here only."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar

from pipeline import paths
from pipeline.atomic import replacing_folder
from pipeline.config.sections import LoraSection, ModelSection
from pipeline.errors import UserError
from pipeline.process import keep_freed_memory
from pipeline.records import read_json, write_json

POLICY_ADAPTER = "default"  # PEFT saves an adapter of this name without a subfolder
REFERENCE_ADAPTER = "reference"
MANIFEST = "manifest.json"

# architecture -> (class that loads the checkpoint, PEFT's word for the task)
_ARCHITECTURES: dict[str, tuple[Any, TaskType]] = {
    "causal": (AutoModelForCausalLM, TaskType.CAUSAL_LM),
    "seq2seq": (AutoModelForSeq2SeqLM, TaskType.SEQ_2_SEQ_LM),
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """Return the device named by DEVICE (cpu or cuda), else CUDA where there is one, else the CPU.

    Raises UserError for another name, or for cuda where there is none. CUDA_VISIBLE_DEVICES chooses the card.
    """
    has_cuda = torch.cuda.is_available()
    name = os.environ.get("DEVICE") or ("cuda" if has_cuda else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not has_cuda):
        raise UserError(f"DEVICE: expected cpu{' or cuda' if has_cuda else ', since no CUDA is here'}, got {name!r}")
    return torch.device(name)


def load_tokenizer(experiment: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the base model; raise UserError when it has no end-of-sequence token."""
    folder = paths.base_model(experiment)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no end-of-sequence token; choose another model.source")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(experiment: str, model: ModelSection) -> Any:
    """Load the untouched base model in evaluation mode on the chosen device, with all weights frozen."""
    folder = paths.base_model(experiment)
    if not (folder / "config.json").exists():
        raise UserError(f"{folder}: no checkpoint here; run `dvc repro download@{experiment}`")
    keep_freed_memory()
    disable_progress_bar()  # loading takes under a second
    loader, _ = _ARCHITECTURES[model.architecture]
    base = loader.from_pretrained(folder, dtype=_DTYPES[model.dtype], local_files_only=True, use_safetensors=True)
    return base.to(device()).eval().requires_grad_(False)


def load_policy_model(experiment: str, seed: int, model: ModelSection, policy: str) -> Any:
    """Load a trained policy for sampling: the base with the policy's adapter and, if there is one, the reference's.

    The policy `reference` is the base itself, or the base with the reference adapter as its policy adapter.
    """
    base = load_base(experiment, model)
    own, reference = paths.adapter(experiment, seed, policy), paths.adapter(experiment, seed, "reference")
    if policy == "reference" and not has_adapter(own):
        return base
    wrapped = PeftModel.from_pretrained(base, own, adapter_name=POLICY_ADAPTER, is_trainable=False)
    return _with_frozen_reference(wrapped, reference).eval()


def new_policy_model(experiment: str, seed: int, model: ModelSection, lora: LoraSection) -> PeftModel:
    """Return the reference with a fresh trainable LoRA adapter that changes nothing yet (B = 0).

    Where the reference is a task adapter, the policy adapter starts as a copy of it, and the reference stays
    loaded beside it, frozen: one copy of the base weights serves both.
    """
    base = load_base(experiment, model)
    reference = paths.adapter(experiment, seed, "reference")
    set_seed(seed)
    if has_adapter(reference):
        wrapped = PeftModel.from_pretrained(base, reference, adapter_name=POLICY_ADAPTER, is_trainable=True)
    else:
        wrapped = get_peft_model(base, lora_config(model, lora), adapter_name=POLICY_ADAPTER)
    return _with_frozen_reference(wrapped, reference)


def lora_config(model: ModelSection, lora: LoraSection) -> LoraConfig:
    """Translate the `lora` section into PEFT's configuration."""
    return LoraConfig(
        task_type=_ARCHITECTURES[model.architecture][1],
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )


def has_adapter(reference: Path) -> bool:
    """Tell from its manifest whether the reference is an adapter (True) or the bare base (False)."""
    manifest = reference / MANIFEST
    return bool(read_json(manifest)["kind"] == "adapter") if reference.name == "reference" else True


def write_reference_manifest(experiment: str, seed: int, kind: str) -> None:
    """Say in the reference's folder what it is: `base` or `adapter`."""
    write_json(paths.adapter(experiment, seed, "reference") / MANIFEST, {"kind": kind})


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


def remove_adapter(experiment: str, seed: int, method: str) -> None:
    """Remove what an earlier, perhaps interrupted, training of this method left in its output folder."""
    shutil.rmtree(paths.adapter(experiment, seed, method), ignore_errors=True)


def save_adapter(model: PeftModel, experiment: str, seed: int, method: str) -> Path:
    """Save the policy adapter alone, as safetensors, with nothing in it that depends on time or place."""
    return write_adapter(model, paths.adapter(experiment, seed, method))


def write_adapter(model: PeftModel, folder: Path, at_once: bool = False) -> Path:
    """Write the policy adapter alone to a folder, which is there whole or not at all; see `pipeline.atomic`."""
    with replacing_folder(folder, at_once) as temporary:
        model.save_pretrained(str(temporary), selected_adapters=[POLICY_ADAPTER], safe_serialization=True)
        (temporary / "README.md").unlink(missing_ok=True)  # PEFT's template card: empty headings
        settings = read_json(temporary / "adapter_config.json")
        # PEFT keeps these names in a set, whose order is another in every process.
        write_json(temporary / "adapter_config.json", settings | {"target_modules": sorted(settings["target_modules"])})
    return folder


def _with_frozen_reference(model: PeftModel, reference: Path) -> PeftModel:
    if has_adapter(reference):
        model.load_adapter(str(reference), adapter_name=REFERENCE_ADAPTER, is_trainable=False)
    return model
