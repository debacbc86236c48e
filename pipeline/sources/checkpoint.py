"""L1: make a Transformers checkpoint folder (config, safetensors, tokenizer) out of downloaded files."""

import logging
import shutil
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing_folder
from pipeline.errors import UserError
from pipeline.records import read_json

logger = logging.getLogger(__name__)

PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".msgpack", ".h5"}


def import_checkpoint(files: Path, target: Path) -> None:
    """Turn a folder of downloaded files into the checkpoint folder `target`, replacing it as a whole.

    One GGUF is dequantized to float32; a folder with config.json and safetensors is copied without pickled weights.
    The same files give the same bytes. Raises UserError for anything else, weights in pickles above all, and for a
    config that Transformers cannot read without running code of the checkpoint.
    """
    ggufs = sorted(files.glob("*.gguf"))
    with replacing_folder(target) as folder:
        if len(ggufs) == 1:
            _dequantize(ggufs[0], folder)
        elif not ggufs and (files / "config.json").is_file() and any(files.glob("*.safetensors")):
            _copy(files, folder)
        else:
            raise UserError(
                "model.source: expected one .gguf, or config.json with *.safetensors, got "
                f"{', '.join(_listed(files)) or 'nothing'}; weights in pickles are never read: name a safetensors file"
            )
        _check(folder)


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("%s: dequantizing to float32 (may take a minute)", gguf.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
        )
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise UserError(f"model.source: {gguf.name}: Transformers cannot read it ({_one_line(error)})") from error
    # Transformers refuses to save a model that still says it is quantized, though its weights no longer are.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    for key in ("is_local", "local_files_only"):  # how it was loaded just now is no fact about the tokenizer
        tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _copy(files: Path, folder: Path) -> None:
    for name in _listed(files):
        if Path(name).suffix in PICKLES:
            logger.info("%s: not copied, since weights are never read from pickles", name)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files / name, folder / name)


def _check(folder: Path) -> None:
    from transformers import AutoConfig

    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = sorted({name for name in read_json(index)["weight_map"].values() if not (folder / name).is_file()})
        if missing:
            raise UserError(f"model.source: {index.name} needs {', '.join(missing)}; add them to sha256")
    try:
        AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"model.source: Transformers cannot read config.json ({_one_line(error)})") from error


def _listed(files: Path) -> list[str]:
    return sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
