"""Base model, tokenizer, LoRA adapters. Architecture, dtype and device are decided here only."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerBase, set_seed
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils.logging import disable_progress_bar

from pipeline.config.sections import AdapterReference, FullReference, LoraSection, ModelSection
from pipeline.io import paths
from pipeline.io.atomic import replacing_folder, staged
from pipeline.io.errors import NotFiniteError, UserError, shortened, shown
from pipeline.io.process import keep_freed_memory
from pipeline.io.records import read_json, write_json
from pipeline.policy import adapters, quantization, recomputation
from pipeline.policy.adapters import POLICY_ADAPTER, REFERENCE_ADAPTER, adapters_of
from pipeline.sources import checkpoint

REFERENCE = "reference"  # the policy
KINDS = ("base", "adapter", "full")  # of reference
MANIFEST = "manifest.json"

# architecture -> (class that loads the checkpoint, the types of model it loads, PEFT's word for the task)
_ARCHITECTURES: dict[str, tuple[Any, Collection[str], TaskType]] = {
    "causal": (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, TaskType.CAUSAL_LM),
    "seq2seq": (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, TaskType.SEQ_2_SEQ_LM),
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def device() -> torch.device:
    """Return the device named by DEVICE (cpu or cuda), else CUDA where there is one, else the CPU.

    Raises UserError for another name, or for cuda where there is none. CUDA_VISIBLE_DEVICES chooses the card.
    """
    has_cuda = torch.cuda.is_available()
    name = os.environ.get("DEVICE") or ("cuda" if has_cuda else "cpu")
    if name not in ("cpu", "cuda") or (name == "cuda" and not has_cuda):
        expected = "cpu or cuda" if has_cuda else "cpu, since no CUDA is here"
        raise UserError(f"DEVICE: expected {expected}, got {name!r}; correct or unset it")
    return torch.device(name)


def load_tokenizer(experiment: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the base model.

    Raises UserError when its files are broken, when it has no end-of-sequence token, and when it makes token ids that
    the model has no embedding for.
    """
    folder = paths.base_model(experiment)
    vocabulary = checkpoint.read_config(folder).get_text_config().vocab_size
    file, beside = folder / "tokenizer.json", folder / "tokenizer_config.json"
    if beside.exists():
        checkpoint.check_no_code(beside, read_json(beside))
    with checkpoint.reading(file if file.exists() else folder, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    ids = set(tokenizer.get_vocab().values())
    if len(ids) <= len(tokenizer.all_special_ids):
        raise UserError(f"{folder}: the tokenizer has no tokens but special ones; {checkpoint.REMEDY}")
    if max(ids) >= vocabulary:
        raise UserError(
            f"{folder}: the tokenizer makes token ids up to {max(ids)}, but the model has embeddings for "
            f"{vocabulary} tokens; {checkpoint.REMEDY}"
        )
    if tokenizer.eos_token_id is None:
        raise UserError(f"{folder}: the tokenizer has no end-of-sequence token; choose another model.source")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(experiment: str, model: ModelSection) -> Any:
    """Load the untouched base model in evaluation mode on the chosen device, with all weights frozen.

    Raises UserError when the checkpoint is not whole, not of this architecture, or holds weights that are not finite.
    """
    return _load_checkpoint(paths.base_model(experiment), model, checkpoint.REMEDY)


def load_start(experiment: str, seed: int, model: ModelSection) -> Any:
    """Load, as `load_base` does, what adapters are of: the base, or the reference where all its weights were trained.

    That one is then what every other function here calls the base.
    """
    if reference_kind(experiment, seed) == "full":
        return _load_checkpoint(_folder(experiment, seed, REFERENCE), model, adapters.REMEDY)
    return load_base(experiment, model)


def _load_checkpoint(folder: Path, model: ModelSection, remedy: str) -> Any:
    loader, known, _ = _ARCHITECTURES[model.architecture]
    config = checkpoint.read_config(folder, remedy)
    checkpoint.check_sizes(folder, config, model.architecture, known, remedy)
    checkpoint.check_generation(folder, config.get_text_config().vocab_size, remedy)
    checkpoint.check_weight_files(folder, remedy)
    keep_freed_memory()
    disable_progress_bar()  # loading takes under a second
    more: dict[str, Any] = {}
    if model.quantization is not None:
        more = quantization.loading(_DTYPES[model.dtype], device())
        checkpoint.check_finite_files(folder, remedy)  # 4 bits cannot show it any more
    with checkpoint.reading(folder / "config.json", f"a model of type {config.model_type}", remedy):
        base, loaded = loader.from_pretrained(
            folder,
            **more,
            dtype=_DTYPES[model.dtype],
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told in `loaded`, and refused there
        )
    base = (base if quantization.is_quantized(base) else base.to(device())).eval().requires_grad_(False)
    checkpoint.check_loaded(folder, base, loaded, remedy)
    return base


def skeleton(config: Any, model: ModelSection) -> Any:
    """Return the model of a configuration without memory for its weights: they are on the device `meta`."""
    with torch.device("meta"):
        return _ARCHITECTURES[model.architecture][0].from_config(config, dtype=_DTYPES[model.dtype])


def load_policy_model(experiment: str, seed: int, model: ModelSection, policy: str) -> Any:
    """Load a trained policy for sampling: the start with the policy's adapter and, if there is one, the reference's.

    The policy `reference` is the start itself, or the start with the reference adapter as its policy adapter.
    """
    base = load_start(experiment, seed, model)
    if policy == REFERENCE and reference_kind(experiment, seed) != "adapter":
        return base
    wrapped = _with_adapter(base, _folder(experiment, seed, policy), model, is_trainable=False)
    return _with_frozen_reference(wrapped, experiment, seed, model).eval()


def new_policy_model(experiment: str, seed: int, model: ModelSection, lora: LoraSection) -> PeftModel:
    """Return the reference with a fresh trainable LoRA adapter that changes nothing yet (B = 0).

    Where the reference is a task adapter, the policy adapter starts as a copy of it, and the reference stays
    loaded beside it, frozen: one copy of the base weights serves both.
    """
    base = load_start(experiment, seed, model)
    set_seed(seed)
    if reference_kind(experiment, seed) == "adapter":
        wrapped = _with_adapter(base, _folder(experiment, seed, REFERENCE), model, is_trainable=True)
    else:
        wrapped = _with_fresh_adapter(base, model, lora, "lora")
    return _to_train(_with_frozen_reference(wrapped, experiment, seed, model), model)


def new_reference_model(
    experiment: str, seed: int, model: ModelSection, reference: AdapterReference | FullReference
) -> Any:
    """Return the base, ready to be trained to be the reference: with a fresh LoRA adapter, or all of its weights.

    All weights are trained in float32, whatever `model.dtype` is: in bfloat16 most of an update is rounded away.
    """
    if isinstance(reference, FullReference):
        whole = load_base(experiment, model.model_copy(update={"dtype": "float32"}))
        set_seed(seed)
        return _to_train(whole.requires_grad_(True), model)
    base = load_base(experiment, model)
    set_seed(seed)
    return _to_train(_with_fresh_adapter(base, model, reference.lora, "reference.lora"), model)


def lora_config(model: ModelSection, lora: LoraSection) -> LoraConfig:
    """Translate the `lora` section into PEFT's configuration."""
    return LoraConfig(
        task_type=TaskType(_task(model)),
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
    )


def reference_kind(experiment: str, seed: int) -> str:
    """Return what the manifest says that the reference is: `base`, `adapter`, or `full` where all weights were trained.

    Raises UserError when the manifest is absent or says none of these.
    """
    manifest = paths.adapter(experiment, seed, REFERENCE) / MANIFEST
    kind = read_json(manifest).get("kind")
    if kind not in KINDS:
        raise UserError(
            f"{manifest}: kind: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}, got {shown(kind)}; "
            "delete it and run `dvc repro`"
        )
    return str(kind)


def write_reference_manifest(experiment: str, seed: int, kind: str) -> None:
    """Say in the reference's folder what it is: `base`, `adapter` or `full`."""
    write_json(paths.adapter(experiment, seed, REFERENCE) / MANIFEST, {"kind": kind})


@contextmanager
def blamed(experiment: str, seed: int, policy: str) -> Iterator[None]:
    """Name the weights in whatever is raised inside the block because what they compute is not finite."""
    own, base = paths.adapter(experiment, seed, policy), paths.base_model(experiment)
    try:
        yield
    except NotFiniteError as error:
        is_own = any((staged(own) / name).exists() for name in (adapters.WEIGHTS, checkpoint.WEIGHTS))
        place, remedy = (own, adapters.REMEDY) if is_own else (base, checkpoint.REMEDY)
        raise NotFiniteError(f"{place}: {error}; {remedy}, or use model.dtype float32", error.prompt_ids) from None


def save_adapter(model: PeftModel, experiment: str, seed: int, method: str) -> Path:
    """Save the policy adapter alone, as safetensors, with nothing in it that depends on time or place."""
    return write_adapter(model, paths.adapter(experiment, seed, method))


def write_adapter(model: PeftModel, folder: Path, at_once: bool = False) -> Path:
    """Write the policy adapter alone to a folder, which is there whole or not at all; see `pipeline.io.atomic`."""
    with replacing_folder(folder, at_once) as temporary:
        model.save_pretrained(str(temporary), selected_adapters=[POLICY_ADAPTER], safe_serialization=True)
        (temporary / "README.md").unlink(missing_ok=True)  # PEFT's template card: empty headings
        settings = read_json(temporary / "adapter_config.json")
        # PEFT keeps these names in a set, whose order is another in every process.
        write_json(temporary / "adapter_config.json", settings | {"target_modules": sorted(settings["target_modules"])})
    return folder


def write_reference(model: Any, experiment: str, seed: int, section: ModelSection) -> Path:
    """Write a trained reference, its adapter alone or all of its weights in `model.dtype`, and its manifest."""
    folder = paths.adapter(experiment, seed, REFERENCE)
    if adapters_of(model):
        write_adapter(model, folder)
        write_reference_manifest(experiment, seed, "adapter")
    else:
        checkpoint.write_checkpoint(model.to(_DTYPES[section.dtype]), folder, paths.base_model(experiment))
        write_reference_manifest(experiment, seed, "full")
    return folder


def _folder(experiment: str, seed: int, policy: str) -> Path:
    """Return where an adapter or a reference is read: a stage may look at what it has just written."""
    return staged(paths.adapter(experiment, seed, policy))


def _with_adapter(base: Any, folder: Path, model: ModelSection, is_trainable: bool) -> PeftModel:
    tensors = adapters.read_adapter(folder, _task(model), base)
    with checkpoint.reading(folder / adapters.WEIGHTS, "an adapter for this base", adapters.REMEDY):
        wrapped = PeftModel.from_pretrained(base, folder, adapter_name=POLICY_ADAPTER, is_trainable=is_trainable)
    adapters.check_adapted(folder, tensors, _adapter_tensors(wrapped, POLICY_ADAPTER))
    return wrapped


def _with_fresh_adapter(base: Any, model: ModelSection, lora: LoraSection, key: str) -> PeftModel:
    """Return the model with a new adapter; `key` is where the settings of it stand in the experiment file."""
    if absent := adapters.absent_modules(base, lora.target_modules):
        raise UserError(f"{key}.target_modules: the model has no module {shown(absent)}; correct or remove it")
    try:
        return get_peft_model(base, lora_config(model, lora), adapter_name=POLICY_ADAPTER)
    except ValueError as error:
        raise UserError(
            f"{key}.target_modules: PEFT can adapt matrices alone, got {shown(lora.target_modules)} "
            f"({shortened(str(error))}); correct or remove what is none"
        ) from error


def _with_frozen_reference(wrapped: PeftModel, experiment: str, seed: int, model: ModelSection) -> PeftModel:
    if reference_kind(experiment, seed) == "adapter":
        reference = _folder(experiment, seed, REFERENCE)
        tensors = adapters.read_adapter(reference, _task(model), wrapped.get_base_model())
        with checkpoint.reading(reference / adapters.WEIGHTS, "an adapter for this base", adapters.REMEDY):
            wrapped.load_adapter(str(reference), adapter_name=REFERENCE_ADAPTER, is_trainable=False)
        adapters.check_adapted(reference, tensors, _adapter_tensors(wrapped, REFERENCE_ADAPTER))
    return wrapped


def _adapter_tensors(wrapped: PeftModel, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = get_peft_model_state_dict(wrapped, adapter_name=name, save_embedding_layers=False)
    return found


def _to_train(model: Any, section: ModelSection) -> Any:
    if section.gradient_checkpointing:
        recomputation.switch_on(model.get_base_model() if adapters_of(model) else model)
    return model


def _task(model: ModelSection) -> str:
    return _ARCHITECTURES[model.architecture][2].value
