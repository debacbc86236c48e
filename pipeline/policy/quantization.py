"""Frozen base weights in 4 bits while they are in memory (QLoRA: Dettmers et al. 2023). Files stay as they are."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from transformers import BitsAndBytesConfig

from pipeline.io.errors import UserError

PACKAGE, VERSION = "bitsandbytes", "0.50.0"  # which version rounds weights is part of a result
REQUIREMENTS = "requirements-nf4.txt"
DEVICES = ("cuda",)  # on a CPU bitsandbytes 0.50 repacks weights that were sampled from, and then loses gradients


def loading(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` is told, so that linear layers come in nf4 and compute in `dtype` on the device.

    Blocks' scales are quantized too (double quantization); embeddings, norms and the output layer are not quantized.
    Raises UserError where there is no CUDA, or not the version of bitsandbytes that this repository was written for.
    """
    if device.type not in DEVICES:
        raise UserError(
            "model.quantization: nf4 needs CUDA, which is not here (or DEVICE=cpu chose against it); use a machine "
            "with an NVIDIA GPU, or set model.quantization to null and lower model.dtype to bfloat16"
        )
    if (found := _installed()) != VERSION:
        raise UserError(
            f"model.quantization: nf4 needs {PACKAGE} {VERSION}, which is {found or 'not'} here; run "
            f"`.venv/bin/python -m pip install {PACKAGE}=={VERSION}` (the pin of {REQUIREMENTS}), or set "
            "model.quantization to null"
        )
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    place = torch.cuda.current_device() if device.type == "cuda" else "cpu"
    return {"quantization_config": config, "device_map": {"": place}}


def is_quantized(model: Any) -> bool:
    """Tell whether weights of the model are in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def _installed() -> str | None:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return None
