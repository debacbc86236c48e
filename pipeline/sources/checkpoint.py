"""L1: make a Transformers checkpoint folder (config, safetensors, tokenizer) out of downloaded files."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing_folder
from pipeline.errors import UserError
from pipeline.sources.folders import shown
from pipeline.sources.gguf_header import check_header
from pipeline.sources.inspection import inspect, parsing

logger = logging.getLogger(__name__)

CODE = {".py", ".pyc", ".so"}
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".msgpack", ".h5"}


def import_checkpoint(files: Path, target: Path, key: str = "model.source") -> None:
    """Turn a folder of downloaded files into the checkpoint folder `target`, replacing it as a whole.

    One GGUF is dequantized to float32; a folder with config.json and safetensors is copied without pickles
    and without code. The same files give the same bytes. Raises UserError naming `key`, the parameter that the files
    come from, for anything else, weights in pickles above all, and for what `inspect` refuses.
    """
    ggufs = sorted(files.glob("*.gguf"))
    with replacing_folder(target) as folder, _naming(key):
        if len(ggufs) == 1:
            _dequantize(ggufs[0], folder)
        elif not ggufs and (files / "config.json").is_file() and any(files.glob("*.safetensors")):
            _copy(files, folder)
        else:
            found = shown(", ".join(_listed(files)), longest=300) or "nothing"
            raise UserError(
                f"expected one .gguf, or config.json with *.safetensors, got {found}; weights in pickles "
                "are never read: name a safetensors file"
            )
        inspect(folder)


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Put the parameter's key in front of whatever is wrong with its files."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{key}: {error}") from error


def _dequantize(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    logger.info("%s: dequantizing to float32 (may take a minute)", gguf.name)
    check_header(gguf)
    with parsing(gguf.parent, gguf.name):
        tokenizer = AutoTokenizer.from_pretrained(
            gguf.parent, gguf_file=gguf.name, local_files_only=True, trust_remote_code=False
        )
        model: Any = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True, trust_remote_code=False
        )
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
        if Path(name).suffix.lower() in PICKLES | CODE:
            logger.info("%s: not copied, since no pickle is read and no code of a checkpoint is run", name)
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files / name, folder / name)


def _listed(files: Path) -> list[str]:
    return sorted(path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file())
